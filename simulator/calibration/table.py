"""The measured costs that a simulation starts from: one JSON file, with the machine it was measured on.

Knows the file only: `measure` fills it, `device` makes a clock of it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core.bucket import Bucket
from service.core.types import BLOCKS, Route
from service.engine.scheduling.cost_model import Load, MeasuredRun

#: What the committed simulations used; its "machine" names where it comes from.
COMMITTED = Path(__file__).with_name("measured.json")


def bits(text: str) -> Route:
    """Parse nine digits as a route."""
    return tuple(bit == "1" for bit in text)


@dataclass(frozen=True, slots=True)
class Run:
    """A batch of `rows` pairs of one size through these blocks took `seconds` (median); `routed`: and the routing."""

    height: int
    width: int
    route: str
    rows: int
    routed: bool
    seconds: float

    def to_measured_run(self) -> MeasuredRun:
        """Convert to a row of the service's own warm-up table."""
        bucket = Bucket.of(self.height, self.width)
        load = Load.of(bucket, [bits(self.route)] * self.rows, 1, self.rows * self.routed)
        return MeasuredRun(bucket, load, self.seconds)


@dataclass(frozen=True, slots=True)
class Redis:
    """Core seconds of one call with raw frames through a private server: both clients together, and the server."""

    height: int
    width: int
    clients: float
    server: float


@dataclass(frozen=True, slots=True)
class Table:
    """Everything measured. `spread`: times of single runs over their median, sorted. `routing`: seconds a pair."""

    machine: str
    command: str
    runs: tuple[Run, ...]
    routing: dict[str, float]  #: "HEIGHTxWIDTH" -> seconds of choosing one pair's route, alone
    spread: tuple[float, ...]
    probabilities: tuple[float, ...]  #: of the shipped router on the repository's own clips
    redis: tuple[Redis, ...]

    @classmethod
    def read(cls, path: Path = COMMITTED) -> Table:
        """Read a file that `write` made."""
        raw: dict[str, Any] = json.loads(path.read_text())
        return cls(
            machine=raw["machine"],
            command=raw["command"],
            runs=tuple(Run(**row) for row in raw["runs"]),
            routing=raw["routing"],
            spread=tuple(raw["spread"]),
            probabilities=tuple(raw["probabilities"]),
            redis=tuple(Redis(**row) for row in raw["redis"]),
        )

    def write(self, path: Path) -> None:
        """Write the table as JSON, figures to four digits."""
        path.write_text(json.dumps(_round(dataclasses.asdict(self)), indent=1) + "\n")

    def sizes(self) -> list[tuple[int, int]]:
        """List height and width of every size measured, the smallest first."""
        return sorted({(row.height, row.width) for row in self.runs}, key=lambda size: size[0] * size[1])

    def seconds(self, height: int, width: int, route: str = "1" * BLOCKS) -> float:
        """Return the measured seconds of one pair alone with this route (no routing)."""
        return next(
            row.seconds
            for row in self.runs
            if (row.height, row.width, row.route, row.rows, row.routed) == (height, width, route, 1, False)
        )


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    return [_round(item) for item in value] if isinstance(value, list | tuple) else value
