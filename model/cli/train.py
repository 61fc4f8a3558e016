"""`python -m model train`: reads a run file, finds the data, and trains or continues."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

import torch

from model import checkpoint
from model.cli.values import device_or_auto, refuse, seconds, whole
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import clips, decode, plan, processes
from model.training.batches import Batches, Footage, footage
from model.training.loop import Loop, RunOptions
from model.training.state import StateError

RUNS = Path(__file__).parent.parent / "training" / "runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    names = ", ".join(sorted(path.stem for path in RUNS.glob("*.toml")))
    parser.add_argument("run", help=f"a run file, or the name of one in model/training/runs: {names}")
    parser.add_argument("--out", type=Path, help="folder for state, weights and curves (default: run/<name>); resumes")
    parser.add_argument(
        "--device",
        type=device_or_auto,
        default="auto",
        help="cpu, cuda, cuda:1 ... (default: a GPU where there is one)",
    )
    parser.add_argument("--steps", type=whole(1), help="at most so many steps a phase: to try a run")
    parser.add_argument("--batch", type=whole(1), help="at most so many samples a step and process: to try a run")
    parser.add_argument("--seconds", type=seconds, help="stop after so long, with the state saved")
    parser.add_argument("--data", type=Path, help="take every relative path of the run file from here")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"), help="where decoded clips are kept")
    parser.add_argument("--threads", type=whole(1), help="CPU threads")
    parser.add_argument("--save-seconds", type=seconds, default=180.0, help="between two saved states (default: 180)")
    parser.add_argument("--log-every", type=whole(1), default=50, help="steps between two lines (default: 50)")
    parser.add_argument("--small-files", action="store_true", help="state in files below 16 MiB")


def main(arguments: argparse.Namespace) -> int:
    """Train; return 0 when the run ended or was stopped with its state saved, 2 where it cannot start."""
    try:
        return _train(arguments)
    except (plan.PlanError, clips.LayoutError, checkpoint.CheckpointError, StateError, OSError) as error:
        return refuse(error)


def _train(arguments: argparse.Namespace) -> int:
    own_run = RUNS / f"{arguments.run}.toml"
    config = plan.read(own_run if own_run.is_file() else arguments.run)
    config = plan.under(config, arguments.data) if arguments.data else config
    config = plan.shortened(config, arguments.steps, arguments.batch)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with processes.join(arguments.device) as rank:
        # Only the leader decodes; the others then find the cache written.
        ready = _footage(config, arguments.cache, rank.device) if rank.leads else []
        processes.wait(rank)
        ready = ready or _footage(config, arguments.cache, rank.device)
        batches = Batches(ready, rank.device, config.seed, rank.index)
        options = RunOptions(
            log_every=arguments.log_every,
            save_seconds=arguments.save_seconds,
            part_bytes=15 * 2**20 if arguments.small_files else None,
            say=lambda line: print(line, flush=True),
        )
        loop = Loop(config, _network(config), batches, arguments.out or Path("run") / config.name, rank, options)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if arguments.seconds:
            timer = threading.Timer(arguments.seconds, stop.set)
            timer.daemon = True
            timer.start()
        loop.run(should_stop=stop.is_set)
    return 0


def _network(config: plan.TrainConfig) -> DMVFN:
    if config.init:
        return checkpoint.load(checkpoint.DEFAULT if config.init == "shipped" else config.init)
    torch.manual_seed(config.seed)
    return DMVFN(ModelConfig.paper() if config.network == "paper" else ModelConfig.tiny())


def _footage(config: plan.TrainConfig, cache: Path, device: torch.device) -> list[Footage]:
    strides = max(phase.stride for phase in config.phases)
    ready: list[Footage] = []
    for source in config.sources:
        files = clips.find(source.path, source.layout)
        decoded_clips = decode.load(files, cache, _progress)
        ready += footage(decoded_clips, device, strides, config.resident, source.weight)
    return ready


def _progress(count: int, total: int) -> None:
    if count % 20 == 0 or count == total:
        print(f"decoded {count} of {total} clips", flush=True)
