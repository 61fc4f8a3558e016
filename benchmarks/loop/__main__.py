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
from multiprocessing import get_context
from pathlib import Path

from benchmarks import machine
from benchmarks.loop import report
from benchmarks.loop.ways import run, ways

DELAYS = (50, 100, 150, 200, 225, 250, 300)


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
    # Not forked: OpenMP has threads in this process.
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        futures = [pool.submit(run, way, delay, seed, options.seconds) for way, delay, seed in runs]
        drives = [future.result() for future in futures]
    outcomes = [report.Outcome(way, delay, each) for (way, delay, _), each in zip(runs, drives, strict=True)]
    took = time.perf_counter() - began
    print(f"{machine.describe()}; {options.seeds} roads, {options.seconds:g} s each, {took:.0f} s in all")
    print(report.table(outcomes))
    if options.plot:
        report.plot(outcomes, options.plot)


if __name__ == "__main__":
    main()
