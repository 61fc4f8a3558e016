"""The questions by name, and one asked with a count of what it took: what a process of its own can be told to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from simulator.calibration.table import Table
from simulator.experiments import autoscaling, batching, fleet_sizes, routes
from simulator.experiments.setup import Study
from simulator.report.report import Answer

QUESTIONS: dict[str, Callable[[Study], Answer]] = {
    "batches": batching.ask,
    "routes": routes.ask,
    "autoscaling": autoscaling.ask,
    "fleet": fleet_sizes.ask,
}


def ask(name: str, table: Table, effort: float, seed: int) -> Answer:
    """Ask one question; return its answer with the requests, events and seconds it took."""
    study = Study(table, effort, seed)
    answer = QUESTIONS[name](study)
    return dataclasses.replace(answer, requests=study.requests, events=study.events, seconds=study.seconds)
