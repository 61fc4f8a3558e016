"""The questions by name, and one asked with a count of what it took: what a process of its own can be told to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks.simulate import batches, fleets, lag, routes
from benchmarks.simulate.answer import Answer
from benchmarks.simulate.study import Study
from benchmarks.simulate.table import Table

QUESTIONS: dict[str, Callable[[Study], Answer]] = {
    "batches": batches.ask,
    "routes": routes.ask,
    "autoscaling": lag.ask,
    "fleet": fleets.ask,
}


def ask(name: str, table: Table, effort: float, seed: int) -> Answer:
    """One question."""
    study = Study(table, effort, seed)
    answer = QUESTIONS[name](study)
    return dataclasses.replace(answer, requests=study.requests, events=study.events, seconds=study.seconds)
