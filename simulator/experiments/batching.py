"""Question 1: greedy batches for each size, against fixed windows and first-in-first-out prefixes."""

from __future__ import annotations

from functools import partial

from simulator.device import Device
from simulator.experiments.setup import Study, capacity
from simulator.fleet import Fleet, PolicyFactory, fifo_prefix, greedy, with_window
from simulator.report import plots
from simulator.report.report import Answer, Grid, percent
from simulator.traffic import SAMPLED, Kind, steady

POLICIES: dict[str, PolicyFactory] = {
    "greedy per size (the service)": greedy,
    "window 10 ms per size": with_window(0.010),
    "window 50 ms per size": with_window(0.050),
    "FIFO prefix": fifo_prefix(),
    "FIFO prefix, window 10 ms": fifo_prefix(0.010),
}
LIGHT, MIDDLE, OVER = 0.2, 0.7, 2.0
LOADS = (LIGHT, 0.5, MIDDLE, 0.9, 1.2, OVER, 3.0)
BUDGET = 1.0
ONE = ((256, 448),)
TWO = ((256, 448), (512, 1024))
REQUESTS = 2_000


def ask(study: Study) -> Answer:
    """Compare the policies on the device as measured, and on one whose passes have a fixed cost."""
    data = []
    grids = []
    for name, device in devices(study).items():
        for sizes in (ONE, TWO):
            rows = [one(study, device, policy, sizes, load) for policy in POLICIES for load in LOADS]
            traffic = " and ".join(f"{height}x{width}" for height, width in sizes)
            data += [{"device": name, "traffic": traffic, **row} for row in rows]
            grids.append(_grid(f"{name}, {traffic}", rows))
    return Answer(
        name="batches",
        title="Greedy batches against windows and prefixes",
        grids=grids,
        data=data,
        notes=[
            f"One worker, {BUDGET:g} s to answer, routes sampled from the shipped router's probabilities, loads as "
            "multiples of the capacity in full batches. Windows run the service's own line and admission; the prefix "
            "is first in, first out, bounded at 256, drops what has expired and knows no costs. Choosing routes "
            "ahead costs the assumed accelerator a tenth of a pass.",
            "Useful: device time spent on answers in time, as a share of all time.",
        ],
        draw=partial(plots.batches, data=data, budget=BUDGET),
        alt="median latency and useful device time over load, for each policy",
    )


def devices(study: Study) -> dict[str, Device]:
    """Return the measured device, and the same with an assumed cost of each pass, as much as a small frame."""
    device = study.device
    kind = Kind.of(*ONE[0], SAMPLED, BUDGET)
    frame = 1 / device.capacity(kind.bucket, SAMPLED, 1)
    name = f"Assumed accelerator: a pass costs {1000 * frame:.0f} ms more, once for all its rows"
    return {"Measured CPU, rows one after the other": device, name: device.accelerator(frame)}


def one(
    study: Study, device: Device, policy: str, sizes: tuple[tuple[int, int], ...], load: float
) -> dict[str, object]:
    """Simulate one policy under one load."""
    kinds = [Kind.of(height, width, SAMPLED, BUDGET) for height, width in sizes]
    rate = load * capacity(device, kinds)
    fleet = Fleet(device, kinds, policy=POLICIES[policy], seed=study.seed)
    seconds = study.count(REQUESTS) / rate
    outcomes = study.run(fleet, steady(rate, seconds, fleet.chance)).outcomes
    return {"policy": policy, "load": load, "seconds": seconds, **outcomes.summary(seconds)}


def _grid(caption: str, data: list[dict[str, object]]) -> Grid:
    by = {(row["policy"], row["load"]): row for row in data}
    rows = []
    for policy in POLICIES:
        light, middle, over = (by[policy, load] for load in (LIGHT, MIDDLE, OVER))
        rows.append(
            (
                policy,
                f"{light['p50_ms']:.0f} / {light['p99_ms']:.0f}",
                f"{middle['p50_ms']:.0f} / {middle['p99_ms']:.0f}",
                percent(float(str(middle["on_time_share"]))),
                f"{over['p50_ms']:.0f} / {over['p99_ms']:.0f}",
                f"{over['goodput']:.1f}",
                percent(float(str(over["useful_share"])), 0),
                f"{over['mean_batch']:.1f}",
            )
        )
    header = (
        "policy",
        f"load {LIGHT:g}: p50 / p99, ms",
        f"{MIDDLE:g}: p50 / p99, ms",
        f"{MIDDLE:g}: in time",
        f"{OVER:g}: p50 / p99, ms",
        f"{OVER:g}: in time, a second",
        f"{OVER:g}: useful",
        f"{OVER:g}: rows a batch",
    )
    return Grid(caption, header, rows)
