"""Holds what a front end last read of the queue, for the gauges, for prices and for times to wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.distributed.frontend.prices import QueuePrices


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue as last read. `work`: seconds of predicted work, queued and running; `prices`: of predictions."""

    items: int = 0
    bytes: int = 0
    work: float = 0.0
    leased: int = 0
    oldest: float = 0.0  #: seconds the oldest item has been there
    dead: int = 0
    results: int = 0  #: bytes of jobs' results, and of those to come
    workers: int = 0
    prices: QueuePrices = field(default_factory=QueuePrices)

    @property
    def wait(self) -> float:
        """Predict seconds until all that is there is done; one worker is assumed where none lives, as one will."""
        return self.work / max(1, self.workers)
