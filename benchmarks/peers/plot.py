"""The comparison as an image: answers on time under each load, and the latency of what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw(path: Path, kept: Sequence[dict[str, Any]]) -> None:
    """`kept`: what runs saved, one row of the image each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(kept), 2, figsize=(9, 3.2 * len(kept)), layout="constrained", squeeze=False)
    for (left, right), run in zip(axes, kept, strict=True):
        title = " and ".join(run["sizes"])
        _bars(left, run["rows"], lambda row: 100 * row["on_time"])
        left.set(title=title, ylabel="answered in time, %", ylim=(0, 105))
        _bars(right, run["rows"], lambda row: 1e3 * row["p50"], lambda row: 1e3 * row["p99"])
        right.set(title=f"{title}: p50 (bar), p99 (line)", ylabel="ms, of right answers", yscale="log")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axes: Any, rows: Sequence[dict[str, Any]], height: Any, top: Any = None) -> None:
    servers = list(dict.fromkeys(row["server"] for row in rows))
    loads = sorted({row["load"] for row in rows})
    width = 0.8 / len(servers)
    for place, server in enumerate(servers):
        mine = sorted((row for row in rows if row["server"] == server), key=lambda row: row["load"])
        at = [loads.index(row["load"]) + (place - (len(servers) - 1) / 2) * width for row in mine]
        values = [height(row) for row in mine]
        bars = axes.bar(at, values, width, label=server)
        if top is not None:
            axes.vlines(at, values, [top(row) for row in mine], color=bars[0].get_facecolor(), linewidth=1.5)
    axes.set_xticks(range(len(loads)), [f"{load:g} x capacity" for load in loads])
    axes.grid(axis="y", alpha=0.3)
