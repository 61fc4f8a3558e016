"""Question 2: static full routes against adaptive ones, from half the capacity to three times it."""

from __future__ import annotations

from functools import partial
from typing import Any

from service.core.types import Options
from simulator.experiments.setup import Study, capacity
from simulator.fleet import Fleet
from simulator.report import plots
from simulator.report.report import Answer, Grid, percent
from simulator.traffic import ADAPTIVE, FULL, Kind, steady

ROUTES: dict[str, Options] = {"full": FULL, "adaptive": ADAPTIVE}
LOADS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SIZES = ((256, 448), (512, 1024))
BUDGET = 1.0
REQUESTS = 3_000


def ask(study: Study) -> Answer:
    """Compare the routes for one size, and for two that come in turn."""
    data: list[dict[str, Any]] = []
    for sizes in (SIZES[:1], SIZES):
        data += [one(study, name, sizes, load) for name in ROUTES for load in LOADS]
    return Answer(
        name="routes",
        title="Full routes against adaptive ones",
        grids=[_targets(data), _grid(data)],
        data=data,
        notes=[
            f"One worker as measured, nine blocks asked for, {BUDGET:g} s to answer. `adaptive` may be answered with "
            "fewer blocks. Load 1 is what the worker can do with all nine. Two sizes: 256x448 and 512x1024 in turn; "
            "small frames are more often in time, so that their count alone would exceed the capacity. Useful: device "
            "time spent on answers in time, as a share of all time."
        ],
        draw=partial(plots.routes, data=data),
        alt="answers in time and blocks an answer over load, full and adaptive routes",
    )


def one(study: Study, name: str, sizes: tuple[tuple[int, int], ...], load: float) -> dict[str, Any]:
    """Simulate one kind of routes under one load; goodput also as a share of the capacity with all blocks."""
    kinds = [Kind.of(height, width, ROUTES[name], BUDGET) for height, width in sizes]
    full = capacity(study.device, [Kind.of(height, width, FULL, BUDGET) for height, width in sizes])
    seconds = study.count(REQUESTS) / (load * full)
    fleet = Fleet(study.device, kinds, seed=study.seed)
    summary = study.run(fleet, steady(load * full, seconds, fleet.chance)).outcomes.summary(seconds)
    return {"routes": name, "sizes": len(sizes), "load": load, "of_capacity": summary["goodput"] / full, **summary}


def _targets(data: list[dict[str, Any]]) -> Grid:
    """List the figures that the overload promise names, at three times the capacity, and whether each is met."""
    by = {(row["routes"], row["sizes"]): row for row in data if row["load"] == LOADS[-1]}
    rows = []
    for sizes, words in ((1, "one size"), (2, "two sizes")):
        full, adaptive = by["full", sizes], by["adaptive", sizes]
        checks = (
            (
                "answered after the deadline",
                "0",
                str(full["late"] + adaptive["late"]),
                not full["late"] + adaptive["late"],
            ),
            ("useful device time, full routes", "≥ 90 %", percent(full["useful_share"]), full["useful_share"] >= 0.9),
            (
                "refusals without a time to wait",
                "0",
                str(full["refused_without_advice"]),
                not full["refused_without_advice"],
            ),
            (
                "answers in time, adaptive / full",
                "≥ 1.5",
                f"{adaptive['on_time'] / full['on_time']:.2f}",
                adaptive["on_time"] >= 1.5 * full["on_time"],
            ),
        )
        rows += [(words, what, target, figure, "yes" if holds else "**no**") for what, target, figure, holds in checks]
    return Grid("At three times the capacity (simulated):", ("", "what", "asked", "found", "met"), rows)


def _grid(data: list[dict[str, Any]]) -> Grid:
    rows = [
        (
            f"{row['load']:g}",
            str(row["sizes"]),
            row["routes"],
            percent(row["on_time_share"]),
            f"{row['goodput']:.1f}",
            percent(row["useful_share"], 0),
            f"{row['mean_blocks']:.1f}",
            f"{row['p50_ms']:.0f} / {row['p99_ms']:.0f}",
            percent(row["refused"] / row["sent"]),
            percent((row["expired"] + row["in_vain"]) / row["sent"]),
        )
        for row in sorted(data, key=lambda row: (row["sizes"], row["load"], row["routes"] != "full"))
        if row["load"] in (0.5, 1.0, 2.0, 3.0)
    ]
    header = (
        "load",
        "sizes",
        "routes",
        "in time",
        "in time, a second",
        "useful",
        "blocks an answer",
        "p50 / p99, ms",
        "refused",
        "expired",
    )
    return Grid("From half the capacity to three times it (simulated):", header, rows)
