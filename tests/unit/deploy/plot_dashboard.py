"""Draws the dashboard's panels from a real Prometheus, where Grafana cannot be had.

`python -m tests.unit.deploy.plot_dashboard docs/dashboard.png 90`: runs a small deployment, sends it traffic for 90
seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import textwrap
import time
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.unit.deploy.live import Live, live
from tests.unit.deploy.test_dashboard import CHOSEN, DRAWN, _filled
from tests.unit.deploy.traffic import once

COLUMNS = 4
STEP = 1.0


def _legend(form: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return re.sub(r"\s*{{\w+}}", "", form)  # Grafana leaves out a label that a series has not


def _series(
    running: Live, panel: dict[str, Any], begin: float, end: float
) -> list[tuple[str, list[float], list[float]]]:
    found = []
    for target in panel["targets"]:
        for line in running.query_range(_filled(target["expr"]), begin, end, STEP):
            times = [float(time_) - begin for time_, _ in line["values"]]
            values = [float(value) for _, value in line["values"]]
            found.append((_legend(target["legendFormat"], line["metric"]), times, values))
    return sorted(found)


def _draw(axes: Axes, panel: dict[str, Any], series: list[tuple[str, list[float], list[float]]]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title("\n".join(textwrap.wrap(f"{panel['title']} [{unit}]", 44)), fontsize=8, loc="left")
    for name, times, values in series:
        axes.plot(times, values, linewidth=1, label=name)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    if series:
        axes.legend(fontsize=5, loc="upper left", ncols=2, framealpha=0.6)


def plot(running: Live, begin: float, end: float) -> Figure:
    """Draw every graph and number of the dashboard, in its order."""
    rows = -(-len(DRAWN) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(4.2 * COLUMNS, 2.1 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, panel in zip(grid.flat, DRAWN, strict=False):
        axes.set_visible(True)
        _draw(axes, panel, _series(running, panel, begin, end))
    chosen = ", ".join(f"{name} = {value}" for name, value in CHOSEN.items())
    title = f"Queries of deploy/grafana/dashboards/dmvfn.json against a real Prometheus ({chosen})"
    # Two dollars are no formula here.
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def main(path: str, seconds: float) -> None:
    """Run, send traffic, draw."""
    with live() as running:
        begin = time.time()
        while time.time() < begin + seconds:
            asyncio.run(once(running))
        titles = json.dumps([panel["title"] for panel in DRAWN])
        plot(running, begin, time.time()).savefig(path, dpi=90, metadata={"Panels": titles})


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
