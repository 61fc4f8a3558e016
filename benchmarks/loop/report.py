"""Runs summed up: how many were completed and how far from the middle of the road, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.loop.drive import Drive

#: Of the normal distribution, for 95 %.
Z = 1.96
RESAMPLES = 2000


class Outcome(NamedTuple):
    """One run of a way at a delay."""

    way: str
    delay_ms: int
    drive: Drive


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def share(completed: int, runs: int) -> Interval:
    """Estimate a share, with Wilson's score interval (Wilson, "Probable Inference", 1927)."""
    p, scale = completed / runs, 1 + Z * Z / runs
    middle = (p + Z * Z / (2 * runs)) / scale
    half = Z / scale * math.sqrt(p * (1 - p) / runs + Z * Z / (4 * runs * runs))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: Sequence[float]) -> Interval:
    """Estimate a mean, with the percentile bootstrap's interval; the same for the same values."""
    rng = np.random.default_rng(0)
    data = np.asarray(values, np.float64)
    means = data[rng.integers(0, len(data), (RESAMPLES, len(data)))].mean(1)
    return Interval(float(data.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))


class Summary(NamedTuple):
    """What the runs of one way at one delay come to."""

    delay_ms: int
    completed: Interval  #: the share of runs
    lateral: Interval  #: metres while on the road
    seconds: float  #: mean, until a run ended


def summaries(outcomes: Sequence[Outcome]) -> dict[str, list[Summary]]:
    """Sum runs up by way and delay, in the order of the outcomes."""
    runs: dict[tuple[str, int], list[Drive]] = {}
    for outcome in outcomes:
        runs.setdefault((outcome.way, outcome.delay_ms), []).append(outcome.drive)
    by_way: dict[str, list[Summary]] = {}
    for (way, delay), drives in runs.items():
        completed = share(sum(drive.completed for drive in drives), len(drives))
        seconds = float(np.mean([drive.seconds for drive in drives]))
        by_way.setdefault(way, []).append(Summary(delay, completed, mean([drive.lateral for drive in drives]), seconds))
    return by_way


def table(outcomes: Sequence[Outcome]) -> str:
    """Write a row for each way and delay: completed, seconds driven, lateral error in metres while on the road."""
    rows = [f"{'way':<14} {'delay ms':>8} {'completed':>22} {'seconds':>8} {'lateral, m':>20}"]
    for way, points in summaries(outcomes).items():
        for delay, done, lateral, seconds in points:
            rows.append(
                f"{way:<14} {delay:8} {100 * done.value:5.0f} % ({100 * done.low:3.0f} to {100 * done.high:3.0f}) "
                f"{seconds:8.1f} {lateral.value:5.2f} ({lateral.low:.2f} to {lateral.high:.2f})"
            )
    return "\n".join(rows)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw completion and lateral error over the delay, a line for each way, with their intervals."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for way, points in summaries(outcomes).items():
        delays = [point.delay_ms for point in points]
        for axes, intervals, factor in (
            (left, [point.completed for point in points], 100),
            (right, [point.lateral for point in points], 1),
        ):
            (line,) = axes.plot(delays, [factor * each.value for each in intervals], marker="o", label=way)
            low, high = ([factor * each[side] for each in intervals] for side in (1, 2))
            axes.fill_between(delays, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
    left.set(xlabel="delay one way, ms", ylabel="runs completed, %", ylim=(-4, 104))
    right.set(xlabel="delay one way, ms", ylabel="lateral error, m (rms, on the road)", ylim=(0, None))
    left.legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
