"""Tells how a run goes: a line with rate, ETA and scores, and the same as rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("step", "phase", "loss", "gain_real", "gain_synthetic", "flow_error", "blocks", "norm", "rate", "samples_s")


@dataclass(slots=True)
class RunningMeans:
    """Running means of named figures since the last `take`."""

    #: By name, sum and count; part of a run's state, so that a stop within a line changes no curve.
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """Count one more value of each figure; a nan counts nothing."""
        for name, value in figures.items():
            if value == value:
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """Return the means, and start over."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


class CurveFile:
    """The CSV file of a run: one row every few steps. A resumed run drops rows past its state and continues."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        rows = []
        if path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: dict[str, float | int | str]) -> None:
        """Append one row; columns that are missing stay empty."""
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            )


class Clock:
    """Rate and remaining time of a run, from the steps done since it started (or resumed)."""

    def __init__(self, now: Callable[[], float], step: int, total: int) -> None:
        self._now, self._from, self._total, self._began = now, step, total, now()

    def rate(self, step: int) -> float:
        """Return steps per second."""
        return (step - self._from) / max(1e-9, self._now() - self._began)

    def remaining(self, step: int) -> str:
        """Return the time to the end at that rate, h:mm:ss."""
        seconds = round((self._total - step) / max(1e-9, self.rate(step)))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
