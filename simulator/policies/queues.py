"""How requests wait for one device: the service's own line, the same with a window, and a first-in-first-out prefix.

The line is `service.engine.request_queue` with `service.engine.scheduling.batch_queue` in it, as the service runs it.
The other two are what
it is compared with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from service.core.errors import QueueFull
from service.engine.request_queue import Pending, RequestQueue, ScheduledBatch
from service.engine.scheduling.batch_queue import BatchDecision, BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import Bucket, CostModel, RouteOption


class Desk(Protocol):
    """What a worker asks of it: `service.engine.request_queue.RequestQueue`'s own methods, and whether to wait."""

    def __len__(self) -> int: ...
    def join(self, pending: Pending, now: float) -> None: ...
    def leave(self, pending: Pending) -> bool: ...
    def forget(self, answered: Iterable[Pending]) -> None: ...
    def arrivals(self, now: float) -> list[Pending]: ...
    def price(self, priced: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None: ...
    def take(self, now: float) -> ScheduledBatch: ...
    def done(self, batch: Iterable[Pending], now: float) -> None: ...
    def learned(self) -> None: ...
    def work(self, now: float) -> float: ...

    def held_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take what waits; None: now."""
        ...


@dataclass(slots=True)
class Windowed(RequestQueue):
    """The service's line. With a `window`, a batch waits until its oldest member is so old or it is full."""

    window: float = 0.0

    @classmethod
    def of(cls, limits: QueueLimits, cost: CostModel, rows: int, window: float = 0.0) -> Windowed:
        """Build the queue as `service.engine.batcher` and the device thread do."""
        line = cls(BatchScheduler(limits), window=window)
        # Whoever waits for a window runs all that it gathered.
        line.queue.device_rows = limits.max_batch if window else rows
        line.cost = cost
        line.learned()
        return line

    def work(self, now: float) -> float:
        """Return the predicted seconds of all that waits or runs: the autoscaler's signal."""
        return self.gauges(now)[-1]

    def held_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take what waits; None: now."""
        if not self.window or not len(self.queue):
            return None
        time = now + self.window - self.queue.oldest_age(now)
        full = max(self.queue.sizes().values()) >= self.queue.limits.max_batch
        return time if time > now + 1e-9 and not full else None


@dataclass(slots=True)
class FifoPrefix:
    """One queue in order of arrival; a batch is its front while sizes are equal. Bounded in items, blind to cost.

    Triton's dynamic batcher does so for inputs that may not be ragged: the first other size ends the batch, and
    ends a window too.
    """

    limits: QueueLimits
    cost: CostModel
    window: float = 0.0
    _waiting: deque[Pending] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, pending: Pending, now: float) -> None:
        """Queue a request. Raises QueueFull when there are too many, without a time to wait."""
        if len(self._waiting) >= self.limits.max_items:
            raise QueueFull("too many requests are waiting")
        pending.entry.enqueued, pending.entry.waiting = now, True
        pending.entry.rungs = (RouteOption(0.0),)
        self._waiting.append(pending)

    def leave(self, pending: Pending) -> bool:
        """Drop a request whose deadline passed; return True if it had not been taken."""
        pending.wanted = False
        was_waiting, pending.entry.waiting = pending.entry.waiting, False
        if was_waiting:
            self._waiting.remove(pending)
        return was_waiting

    def forget(self, answered: Iterable[Pending]) -> None:
        """Do nothing: no record of requests is kept."""

    def arrivals(self, now: float) -> list[Pending]:
        """Return an empty list: routes are chosen when requests run."""
        return []

    def price(self, priced: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None:
        """Do nothing: this queue is blind to cost."""

    def take(self, now: float) -> ScheduledBatch:
        """Take the front of the queue."""
        batch = self._prefix()
        for pending in batch:
            self._waiting.popleft()
            pending.entry.waiting = False
        return ScheduledBatch(BatchDecision(tuple(pending.entry for pending in batch)), tuple(batch))

    def done(self, batch: Iterable[Pending], now: float) -> None:
        """Do nothing: no record of batches is kept."""

    def learned(self) -> None:
        """Do nothing: this queue is blind to cost."""

    def work(self, now: float) -> float:
        """Return nan: the work is unknown."""
        return float("nan")

    def held_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take the front; None: now."""
        if not self.window or not self._waiting:
            return None
        time = self._waiting[0].entry.enqueued + self.window
        prefix = len(self._prefix())
        full = prefix >= self.limits.max_batch or prefix < len(self._waiting)
        return time if time > now + 1e-9 and not full else None

    def _prefix(self) -> list[Pending]:
        batch: list[Pending] = []
        first: Bucket | None = None
        for pending in self._waiting:
            first = first or pending.entry.bucket
            if pending.entry.bucket != first or len(batch) >= self.limits.max_batch:
                break
            batch.append(pending)
        return batch
