"""Question 3: what an autoscaler's lag costs, for a step and a day's rise, by minimum pods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from simulator.autoscaler import HPA, KEDA, POD_START, SCRAPE, SYNC, Autoscaler, Rules
from simulator.experiments.setup import Study, capacity
from simulator.fleet import Fleet
from simulator.policies.routers import RedisCallCost
from simulator.report import plots
from simulator.report.report import Answer, Grid, percent
from simulator.traffic import FULL, Kind, Rate, changing

#: A frame that takes most of a second on the measured CPU: the worst case for pods that answer one after the other.
SIZE = (720, 1280)
BUDGET = 10.0
#: Loads are in devices kept busy: before and after the step, at the day's lowest and highest.
LOW, HIGH = 0.5, 8.0
STEP_AT, STEP_END = 300.0, 1200.0
DAY = 86_400.0
#: From the night's lowest to the noon's highest; going down loses nothing.
RISE = DAY / 2
MINIMA = (1, 2, 4, 8, 12)


def ask(study: Study) -> Answer:
    """Simulate servers scaled by the HPA and workers scaled by KEDA."""
    data: list[dict[str, Any]] = []
    for scaler, rules in (("HPA, servers", Rules.hpa), ("KEDA, workers behind Redis", Rules.keda)):
        for least in MINIMA:
            data.append(one(study, scaler, rules(least), "step", step, STEP_END))
        for least in MINIMA[:4:3]:
            data.append(one(study, scaler, rules(least), "rise", ramp, RISE * min(1.0, study.effort)))
    return Answer(
        name="autoscaling",
        title="What the autoscaler's lag costs",
        grids=[_grid("step", data), _grid("rise", data)],
        data=[{key: value for key, value in row.items() if key != "lost_at"} for row in data],
        notes=[
            f"{SIZE[0]}x{SIZE[1]}, all blocks, {BUDGET:g} s to answer, pods as measured. Step: from {LOW:g} to "
            f"{HIGH:g} devices' load after {STEP_AT:g} s, {STEP_END:g} s in all. Rise: the same on half a day's "
            f"cosine, 12 h. Targets, bounds and rates as in `{HPA}` and `{KEDA}`; scrape every {SCRAPE:g} s and the "
            f"highest of a minute (A), HPA's look every {SYNC:g} s (A), {POD_START:g} s from a pod's start to ready "
            "(M, section 6), none for scheduling or pulling an image. Expired: also what a worker refused that "
            "Redis had admitted."
        ],
        draw=partial(plots.lag, data=data, step_at=STEP_AT, until=STEP_END, high=HIGH),
        alt="pods and unanswered requests after a step, by minimum pods",
    )


def step(now: float) -> float:
    """Return the load in devices kept busy: low before STEP_AT, high after."""
    return LOW if now < STEP_AT else HIGH


def ramp(now: float) -> float:
    """Return the load in devices kept busy: lowest at midnight, highest at noon."""
    return LOW + (HIGH - LOW) * (1 - math.cos(2 * math.pi * now / DAY)) / 2


def one(study: Study, scaler: str, rules: Rules, name: str, load: Rate, until: float) -> dict[str, Any]:
    """Simulate one minimum of pods under one course of load."""
    kind = Kind.of(*SIZE, FULL, BUDGET)
    rate = capacity(study.device, [kind])
    behind_redis = scaler.startswith("KEDA")
    fleet = Fleet(
        study.device,
        [kind],
        rules.least,
        seed=study.seed,
        call_cost=redis_call_cost(study) if behind_redis else None,
        each=1 / rate,
    )
    auto = Autoscaler(fleet.clock, rules, works(fleet), fleet.add, fleet.remove, until)
    arrivals: Iterator[float] = changing(lambda now: rate * load(now), rate * HIGH, until, fleet.chance)
    outcomes = study.run(fleet, arrivals).outcomes
    losses = np.asarray(outcomes.lost_at)
    after = losses[losses > STEP_AT]
    pods = [count for _, count in auto.history]
    return {
        "scaler": scaler,
        "least": rules.least,
        "course": name,
        "hours": until / 3600,
        **outcomes.summary(until),
        "lost": len(losses),
        "lost_until_s": float(after.max() - STEP_AT) if len(after) and name == "step" else 0.0,
        "most_pods": max(pods),
        "pod_hours": _pod_seconds(auto.history, until) / 3600,
        "pods": auto.history,
        "lost_at": losses,
    }


def redis_call_cost(study: Study) -> RedisCallCost:
    """Return the measured cost of a call over Redis with raw frames of SIZE."""
    redis = next(row for row in study.table.redis if (row.height, row.width) == SIZE)
    return RedisCallCost(redis.clients, redis.server)


def works(fleet: Fleet) -> Callable[[], list[float]]:
    """Return a reader of what Prometheus scrapes: work in seconds of each pod, or of the one queue."""
    if (queue := fleet.queue) is not None:
        return lambda: [queue.work()]
    return lambda: [pod.policy.work(fleet.clock.now) for pod in fleet.ready]


def _pod_seconds(history: list[tuple[float, int]], until: float) -> float:
    end_times = [when for when, _ in history[1:]] + [until]
    return sum((end - when) * pods for (when, pods), end in zip(history, end_times, strict=True))


def _grid(course: str, data: list[dict[str, Any]]) -> Grid:
    rows = [
        (
            row["scaler"],
            str(row["least"]),
            str(row["sent"]),
            f"{row['refused']} ({percent(row['refused'] / row['sent'])})",
            f"{row['expired'] + row['in_vain']} ({percent((row['expired'] + row['in_vain']) / row['sent'])})",
            f"{row['lost_until_s']:.0f}" if course == "step" else "–",
            f"{row['p99_ms'] / 1000:.1f}",
            str(row["most_pods"]),
            f"{row['pod_hours']:.1f}",
        )
        for row in data
        if row["course"] == course
    ]
    header = (
        "scaler",
        "minimum pods",
        "requests",
        "refused",
        "expired",
        "last one lost, s after the step",
        "p99, s",
        "most pods",
        "pod hours",
    )
    return Grid(f"{'A step' if course == 'step' else 'The rise of a day'} (simulated):", header, rows)
