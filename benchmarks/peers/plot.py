"""Draws the comparison: answers on time under each load, and the latency of what was answered, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import tables
from benchmarks.peers.intervals import Estimate
from benchmarks.peers.results import Comparison, Row


def draw(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draw each comparison as one row of the image."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    count = len(comparisons)
    figure, axes = pyplot.subplots(count, 2, figsize=(10, 3.4 * count), layout="constrained", squeeze=False)
    for (left, right), comparison in zip(axes, comparisons, strict=True):
        title = " and ".join(comparison.sizes)
        _bars(left, comparison, lambda row: row.on_time, 100)
        left.set(title=title, ylabel="answered in time, %", ylim=(0, 105))
        _bars(right, comparison, lambda row: row.p50, 1e3, lambda row: row.p99)
        right.set(title=f"{title}: median (bar), 99th percentile (dot)", ylabel="ms, of right answers", yscale="log")
        right.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter(ticker.ScalarFormatter())
        right.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(
    axes: Any,
    comparison: Comparison,
    height: Callable[[Row], Estimate | None],
    factor: float,
    dot: Callable[[Row], Estimate | None] | None = None,
) -> None:
    servers = tables.servers(comparison)
    loads = sorted({row.load for row in comparison.rows})
    width = 0.8 / len(servers)
    for number, server in enumerate(servers):
        rows = [row for row in comparison.rows if row.server == server and height(row) is not None]
        places = [loads.index(row.load) + (number - (len(servers) - 1) / 2) * width for row in rows]
        heights = [estimate for row in rows if (estimate := height(row)) is not None]
        values = [factor * estimate.value for estimate in heights]
        bars = axes.bar(places, values, width, label=server)
        axes.errorbar(places, values, _reach(heights, factor), fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        dots = [estimate for row in rows if dot is not None and (estimate := dot(row)) is not None]
        if dots and rows:
            colour = bars[0].get_facecolor()
            values = [factor * estimate.value for estimate in dots]
            axes.errorbar(places, values, _reach(dots, factor), fmt="o", markersize=3, color=colour, elinewidth=1)
    axes.set_xticks(range(len(loads)), [f"{load:g} x capacity" for load in loads])
    axes.grid(axis="y", alpha=0.3)


def _reach(estimates: Sequence[Estimate], factor: float) -> tuple[list[float], list[float]]:
    """Return how far each interval goes down and up from its figure; not at all on a side without a bound."""
    down = [factor * (each.value - each.low) if each.low is not None else 0.0 for each in estimates]
    up = [factor * (each.high - each.value) if each.high is not None else 0.0 for each in estimates]
    return [max(0.0, reach) for reach in down], [max(0.0, reach) for reach in up]
