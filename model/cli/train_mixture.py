"""`python -m model train-head`: draws a head's samples, once, and trains it or continues."""

from __future__ import annotations

import argparse
import math
import tomllib
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import CheckpointError
from model.cli.values import refuse, seconds, whole
from model.mixing import weights
from model.training import clips, mixture_data
from model.training.mixture import HeadLoop, HeadPlan
from model.training.mixture_data import Draw, Folder
from model.training.plan import PlanError
from model.training.state import StateError
from model.training.training_gap import training_gap

RUNS = Path(__file__).parent.parent / "training" / "head_runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    names = ", ".join(sorted(path.stem for path in RUNS.glob("head*.toml")))
    parser.add_argument("run", help=f"a run file, or the name of one in model/training/head_runs: {names}")
    parser.add_argument("--out", type=Path, help="folder for samples, state and weights (default: run/<name>); resumes")
    parser.add_argument("--samples", type=Path, help="folder for samples that several runs share (default: --out)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="take the run file's folders from here")
    parser.add_argument("--seconds", type=seconds, default=math.inf, help="stop after so long, with the state saved")
    parser.add_argument("--threads", type=whole(1), default=1, help="CPU threads (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    """Train; return 0 when the run ended or was stopped with its state saved, 2 where it cannot start."""
    try:
        return _train(arguments)
    except (PlanError, StateError, clips.LayoutError, CheckpointError, OSError) as error:
        return refuse(error)


def _train(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(arguments.threads)
    own_run = RUNS / f"{arguments.run}.toml"
    plan = read(own_run if own_run.is_file() else Path(arguments.run), arguments.data)
    out: Path = arguments.out or Path("run") / plan.name
    out.mkdir(parents=True, exist_ok=True)
    samples: Path = arguments.samples or out
    stores = [_store(samples, plan, draw, held_back=False) for draw in plan.draws]
    held_back = _store(samples, plan, plan.held_back, held_back=True)
    loop = HeadLoop(plan, stores, held_back, out)
    loop.run(arguments.seconds, say=lambda line: print(line, flush=True))
    if loop.step == plan.steps:
        _tell_gap(out, [s for s, draw in zip(stores, plan.draws, strict=True) if not draw.scenes], held_back)
    return 0


def _tell_gap(out: Path, training_stores: list[mixture_data.Store], held_back: mixture_data.Store) -> None:
    head, _ = weights.load(out / "head.safetensors")
    try:
        gains = training_gap(head, training_stores, held_back)
    except ValueError as error:
        print(f"no training gap: {error}", flush=True)
        return
    print(
        f"gain over DIS at the same motion: training clips {gains.trained:+.3f} dB, kept back {gains.kept_back:+.3f} dB"
    )


def read(path: Path, data: Path) -> HeadPlan:
    """Read a head's run file; its folders lie below `data`. Raises PlanError where it is no such file."""
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text())
        folders = tuple(
            Folder(**{**folder, "path": str(data / folder["path"])} | _tuples(folder, "held_back", "rarely"))
            for folder in raw.pop("folders")
        )
        draws = tuple(_draw(draw) for draw in raw.pop("draws"))
        if "held_back" in raw:
            raw["held_back"] = _draw(raw["held_back"])
        if raw.get("init"):
            raw["init"] = str(data / raw["init"])
        raw |= _tuples(raw, "candidates", "widths")
        return HeadPlan(folders=folders, draws=draws, **raw)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise PlanError(f"{path}: not a head's run: {error}") from error


def _draw(values: dict[str, Any]) -> Draw:
    return Draw(**values | _tuples(values, "sizes", "size_shares"))


def _tuples(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(values[name]) for name in names if name in values}


def _store(samples: Path, plan: HeadPlan, draw: Draw, held_back: bool) -> mixture_data.Store:
    kind = "held-back" if held_back else "drawn"
    kind += "-scenes" if draw.scenes else ""
    folder = samples / f"{kind}-{plan.preset}-{draw.size}-{draw.count}-{draw.seed}"
    if not (folder / mixture_data.LAST).exists():
        print(f"drawing {draw.count} samples into {folder}", flush=True)
        mixture_data.build(folder, plan.folders, held_back, draw, plan.preset, samples / "decoded", plan.drawn)
    store = mixture_data.load(folder)
    if missing := set(plan.drawn) - set(store.candidates):
        raise PlanError(f"{folder}: drawn without {', '.join(sorted(missing))}")
    return store
