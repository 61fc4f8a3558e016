"""What prediction is worth to someone who drives by delayed pictures: with, without, and by plain optical flow.

    python -m benchmarks.loop [--seeds 10] [--seconds 20] [--delays 50 100 150 200 225 250 300] [--plot docs/loop.png]

A car on a winding road at 36 km/h is steered by pure pursuit, which sees nothing but pictures (128x224, 30 a second)
that are late, and whose commands are as late on their way back. Each way of showing them drives the same roads, with
the same gusts and noise: as they came; moved along DIS's flow; predicted by the service's own code for the moment at
which the command acts (`t`), by the live head (`quality=fast`) and by method `flow`. The time that a prediction takes
is not among the delays.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import machine
from benchmarks.loop import report
from benchmarks.loop.drive import Drive, Predictor, drive
from benchmarks.loop.world import Pixels, Road
from model.mixing import predictor, weights
from model.motion import carry, classical, field

DELAYS = (50, 100, 150, 200, 225, 250, 300)


def by_dis(previous: Pixels, current: Pixels, t: float) -> Pixels:
    """Move the current picture along t times DIS's flow: the twenty lines of OpenCV."""
    flow = classical.dis(field.grey(current), field.grey(previous), "fast")
    return np.asarray(field.sample(current, flow * np.float32(t)), np.uint8)


def by_mixture(path: Path) -> Predictor:
    """Return the service's prediction for a moment t by the head at `path`."""
    head, about = weights.load(path)

    def predict(previous: Pixels, current: Pixels, t: float) -> Pixels:
        mixture = predictor.mix(previous, current, None, head, about)
        ((_, picture),) = carry.corrected(current, mixture.flow, mixture.frame, [t])
        return picture

    return predict


@cache
def ways() -> dict[str, Predictor | None]:
    """Return the ways of showing a late picture, by name."""
    return {
        "as it came": None,
        "DIS": by_dis,
        "quality=fast": by_mixture(weights.LIVE),
        "flow": by_mixture(weights.DEFAULT),
    }


def run(way: str, delay_ms: int, seed: int, seconds: float) -> Drive:
    """Make one run, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return drive(Road.draw(seed), seed, delay_ms / 1000, ways()[way], seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Drive every combination and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="roads")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run")
    parser.add_argument("--delays", type=int, nargs="+", default=DELAYS, help="one way, in ms")
    parser.add_argument("--ways", nargs="+", choices=list(ways()), default=list(ways()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="write the picture there")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    runs = [(way, delay, seed) for way in options.ways for delay in options.delays for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.processes) as pool:
        futures = [pool.submit(run, *each, options.seconds) for each in runs]
        drives = [future.result() for future in futures]
    outcomes = [report.Outcome(way, delay, each) for (way, delay, _), each in zip(runs, drives, strict=True)]
    took = time.perf_counter() - began
    print(f"{machine.describe()}; {options.seeds} roads, {options.seconds:g} s each, {took:.0f} s in all")
    print(report.table(outcomes))
    if options.plot:
        report.plot(outcomes, options.plot)


if __name__ == "__main__":
    main()
