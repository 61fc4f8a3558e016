"""What a comparison of servers measured, kept in a file that a later piece of the same comparison adds to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.peers.intervals import PARTS, Estimate, difference, part_of, quantile, share


@dataclass(frozen=True, slots=True)
class Row:
    """One server under one load. Latencies in seconds, of right answers, None without any; shares are of what came."""

    server: str
    load: float
    requests: int
    offered: float  #: requests a second
    answered: float  #: right answers a second, late ones too
    errors: float  #: share refused, failed, wrong, or never answered
    on_time: Estimate
    p50: Estimate | None
    p99: Estimate | None
    outcomes: tuple[str, ...]  #: for each part of the run a "1" or "0" an arrival, in order: on time or not


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows measured under the same terms: machine, sizes, seconds a load, largest batch, seconds of each size alone."""

    machine: str
    sizes: tuple[str, ...]
    seconds: float
    batch: int
    alone: tuple[float, ...]
    rows: tuple[Row, ...] = ()

    def row(self, server: str, share_of_capacity: float) -> Row | None:
        """Return what is known of a server under a load."""
        return next((row for row in self.rows if (row.server, row.load) == (server, share_of_capacity)), None)

    def with_row(self, row: Row) -> Comparison:
        """Return a copy with one more row."""
        return dataclasses.replace(self, rows=(*self.rows, row))

    def same_terms(self, other: Comparison) -> bool:
        """Whether rows of both may stand in one table; the time alone is measured once and then kept."""
        return all(getattr(self, name) == getattr(other, name) for name in ("machine", "sizes", "seconds", "batch"))


def summarise(
    server: str,
    share_of_capacity: float,
    rate: float,
    shots: Sequence[load.Shot],
    deadlines: Sequence[float],
    seconds: float,
) -> Row:
    """Count what became of the requests of one load."""
    shots = sorted(shots, key=lambda shot: shot.at)
    parts = [part_of(shot.at, seconds) for shot in shots]
    in_time = [shot.right and shot.took <= deadlines[shot.kind] for shot in shots]
    right = [(shot, part) for shot, part in zip(shots, parts, strict=True) if shot.right]
    took, when = [shot.took for shot, _ in right], [part for _, part in right]
    last = max([seconds, *(shot.at + shot.took for shot, _ in right)])
    return Row(
        server=server,
        load=share_of_capacity,
        requests=len(shots),
        offered=rate,
        answered=len(right) / last,
        errors=1 - len(right) / len(shots),
        on_time=share(in_time, parts, [shot.took for shot in shots]),
        p50=quantile(took, when, 0.5) if took else None,
        p99=quantile(took, when, 0.99) if took else None,
        outcomes=tuple(
            "".join(str(int(hit)) for hit, when in zip(in_time, parts, strict=True) if when == part)
            for part in range(PARTS)
        ),
    )


def ahead(first: Row, second: Row) -> Estimate:
    """Estimate by how much more of the same arrivals `first` answered on time than `second`, -1 to 1.

    ValueError where their arrivals were not the same.
    """
    hits = [
        (part, one == "1", other == "1")
        for part, outcomes in enumerate(zip(first.outcomes, second.outcomes, strict=True))
        for one, other in zip(*outcomes, strict=True)
    ]
    parts, ours, theirs = zip(*hits, strict=True)
    return difference(ours, theirs, parts)


def write(path: Path, comparison: Comparison) -> None:
    """Keep a comparison; whole or not at all, so that a piece that is broken off costs no earlier one."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(dataclasses.asdict(comparison), indent=1) + "\n")
    draft.replace(path)


def read(path: Path) -> Comparison:
    """Return what `write` kept."""
    return parse(json.loads(path.read_text()))


def parse(document: dict[str, Any]) -> Comparison:
    """Return the comparison in a document of JSON."""
    rows = tuple(map(_row, document["rows"]))
    lists = {name: tuple(document[name]) for name in ("sizes", "alone")}
    return Comparison(**{**document, **lists, "rows": rows})


def _row(document: dict[str, Any]) -> Row:
    estimates = {name: _estimate(document[name]) for name in ("on_time", "p50", "p99")}
    return Row(**{**document, **estimates, "outcomes": tuple(document["outcomes"])})


def _estimate(document: dict[str, Any] | None) -> Estimate | None:
    return Estimate(**document) if document is not None else None
