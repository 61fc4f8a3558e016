"""Tells which runs are a size's first ones, slower than all later ones: they compile, allocate and record.

Pure. Knows sizes and numbers of rows; nothing of devices.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.core.bucket import Bucket
from service.engine.scheduling.cost_model import MeasuredRun

#: Sizes and numbers of rows that are remembered; of those forgotten the next run counts as a first one again.
REMEMBERED = 2048


@dataclass(slots=True)
class ColdRuns:
    """Counts the runs of each size and number of rows up to `count`, after which it is warm."""

    count: int = 1
    _counts: OrderedDict[tuple[Bucket, int], int] = field(default_factory=OrderedDict)

    def mark_warm(self, table: Iterable[MeasuredRun]) -> None:
        """Take the rows of a warm-up table for warm: they were measured after runs of their own."""
        for row in table:
            self._count(row.bucket, round(row.load.pixels / row.bucket.pixels), self.count)

    def is_cold(self, bucket: Bucket, rows: int) -> bool:
        """Count a run of `rows` requests; return True for the first `count` of them, whose time is no evidence."""
        runs = self._counts.get((bucket, rows), 0)
        self._count(bucket, rows, min(runs + 1, self.count))
        return runs < self.count

    def _count(self, bucket: Bucket, rows: int, runs: int) -> None:
        self._counts[bucket, rows] = runs
        self._counts.move_to_end((bucket, rows))
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
