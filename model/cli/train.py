"""`python -m model train`: reads a run file, finds the data, and trains or continues."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

import torch

from model import checkpoint
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import clips, decode, plan, processes
from model.training.batches import Batches, Footage, footage
from model.training.loop import Habits, Loop
from model.training.state import StateError

RUNS = Path(__file__).parent.parent / "training" / "runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    names = ", ".join(sorted(path.stem for path in RUNS.glob("*.toml")))
    parser.add_argument("run", help=f"a run file, or the name of one in model/training/runs: {names}")
    parser.add_argument("--out", type=Path, help="folder for state, weights and curves (default: run/<name>); resumes")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU where there is one)")
    parser.add_argument("--steps", type=int, help="at most so many steps a phase: to try a run")
    parser.add_argument("--batch", type=int, help="at most so many samples a step and process: to try a run")
    parser.add_argument("--seconds", type=float, help="stop after so long, with the state saved")
    parser.add_argument("--data", type=Path, help="take every relative path of the run file from here")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"), help="where decoded clips are kept")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--save-seconds", type=float, default=180.0, help="between two saved states (default: 180)")
    parser.add_argument("--log-every", type=int, default=50, help="steps between two lines (default: 50)")
    parser.add_argument("--small-files", action="store_true", help="state in files below 16 MiB")


def main(arguments: argparse.Namespace) -> int:
    """Train; 0 when the run ended or was stopped with its state saved, 2 where it cannot start."""
    try:
        return _train(arguments)
    except (plan.PlanError, clips.LayoutError, checkpoint.CheckpointError, StateError, OSError) as error:
        print(f"error: {error}")
        return 2


def _train(arguments: argparse.Namespace) -> int:
    named = RUNS / f"{arguments.run}.toml"
    run = plan.read(named if named.is_file() else arguments.run)
    run = plan.under(run, arguments.data) if arguments.data else run
    run = plan.shortened(run, arguments.steps, arguments.batch)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with processes.joined(arguments.device) as place:
        # Only the leader decodes; the others then find the cache written.
        ready = _footage(run, arguments.cache, place.device) if place.leads else []
        processes.wait(place)
        ready = ready or _footage(run, arguments.cache, place.device)
        batches = Batches(ready, place.device, run.seed, place.rank)
        habits = Habits(
            log_every=arguments.log_every,
            save_seconds=arguments.save_seconds,
            part_bytes=15 * 2**20 if arguments.small_files else None,
            say=lambda line: print(line, flush=True),
        )
        loop = Loop(run, _network(run), batches, arguments.out or Path("run") / run.name, place, habits)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if arguments.seconds:
            timer = threading.Timer(arguments.seconds, stop.set)
            timer.daemon = True
            timer.start()
        loop.run(stopped=stop.is_set)
    return 0


def _network(run: plan.TrainConfig) -> DMVFN:
    if run.init:
        return checkpoint.load(checkpoint.DEFAULT if run.init == "shipped" else run.init)
    torch.manual_seed(run.seed)
    return DMVFN(ModelConfig.paper() if run.network == "paper" else ModelConfig.tiny())


def _footage(run: plan.TrainConfig, cache: Path, device: torch.device) -> list[Footage]:
    strides = max(phase.stride for phase in run.phases)
    ready: list[Footage] = []
    for source in run.sources:
        found = clips.find(source.path, source.layout)
        loaded = decode.load(found, cache, _progress)
        ready += footage(loaded, device, strides, run.resident, source.weight)
    return ready


def _progress(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        print(f"decoded {done} of {total} clips", flush=True)
