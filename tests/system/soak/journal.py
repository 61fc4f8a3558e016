"""What the service's own log says of a run: by its clock, which no busy machine between it and the caller can spoil."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Journal:
    """Requests to /v1/predict by status, and how close the answers came to their deadlines."""

    statuses: Counter[int] = field(default_factory=Counter)
    least_spare_ms: float = float("inf")
    late: int = 0  #: answers written after their deadline
    errors: list[str] = field(default_factory=list)  #: lines of level error and above


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines, one at a time: the log of hours does not fit the memory twice."""
    with log.open() as file:
        for line in file:
            if line.startswith("{"):
                yield json.loads(line)


def read(log: Path) -> Journal:
    """Of the whole log."""
    journal = Journal()
    for line in lines(log):
        if line["level"] in ("error", "critical"):
            journal.errors.append(json.dumps(line))
        if line.get("endpoint") != "/v1/predict":
            continue
        journal.statuses[line["status"]] += 1
        if line["status"] == 200:
            journal.least_spare_ms = min(journal.least_spare_ms, line["spare_ms"])
            journal.late += line["spare_ms"] < 0
    return journal
