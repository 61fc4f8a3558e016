"""How requests wait for one device: the service's own queue, the same with a window, and a first-in-first-out prefix.

The first is `service.engine.request_queue` with the `batch_scheduler` in it, as the service runs it. The other two are
what it is compared with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from service.core.bucket import Bucket
from service.core.errors import QueueFull
from service.engine.request_queue import Pending, RequestQueue, ScheduledBatch
from service.engine.scheduling.batch_scheduler import BatchDecision, BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import CostModel, RouteOption
from service.engine.scheduling.pricing import DeviceCosts
from service.engine.scheduling.request_state import ENDS, RequestState


class QueuePolicy(Protocol):
    """What a worker asks of it: `service.engine.request_queue.RequestQueue`'s own methods, and whether to wait."""

    def __len__(self) -> int: ...
    def enqueue(self, pending: Pending, now: float) -> None: ...
    def expire(self, pending: Pending) -> RequestState: ...
    def complete(self, outcomes: Iterable[tuple[Pending, RequestState]]) -> None: ...
    def next_to_route(self, now: float) -> list[Pending]: ...
    def price(self, prices: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None: ...
    def next_batch(self, now: float) -> ScheduledBatch: ...
    def finish_batch(self, batch: Iterable[Pending], now: float) -> None: ...
    def refresh_costs(self) -> None: ...
    def work(self, now: float) -> float: ...

    def hold_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take what waits; None: now."""
        ...


@dataclass(slots=True)
class Windowed(RequestQueue):
    """The service's queue. With a `window`, a batch waits until its oldest member is so old or it is full."""

    window: float = 0.0

    @classmethod
    def of(cls, limits: QueueLimits, cost: CostModel, rows: int, window: float = 0.0) -> Windowed:
        """Build the queue as `service.engine.batcher` and the device thread do."""
        queue = cls(BatchScheduler(limits), window=window)
        # Whoever waits for a window runs all that it gathered.
        queue.scheduler.device_rows = limits.max_batch if window else rows
        queue.device_costs = DeviceCosts(cost)
        queue.refresh_costs()
        return queue

    def work(self, now: float) -> float:
        """Return the predicted seconds of all that waits or runs: the autoscaler's signal."""
        return self.gauges(now)[-1]

    def hold_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take what waits; None: now."""
        if not self.window or not len(self.scheduler):
            return None
        time = now + self.window - self.scheduler.oldest_age(now)
        full = max(self.scheduler.sizes().values()) >= self.scheduler.limits.max_batch
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

    def enqueue(self, pending: Pending, now: float) -> None:
        """Queue a request. Raises QueueFull when there are too many, without a time to wait."""
        if len(self._waiting) >= self.limits.max_items:
            pending.entry.enter(RequestState.REFUSED)
            raise QueueFull("too many requests are waiting")
        pending.entry.enter(RequestState.READY)
        pending.entry.enqueued_at, pending.entry.route_options = now, (RouteOption(0.0),)
        self._waiting.append(pending)

    def expire(self, pending: Pending) -> RequestState:
        """End a request whose deadline has passed; return its state before. What has an outcome keeps it."""
        before = pending.entry.state
        if before in ENDS:
            return before
        if before is RequestState.READY:
            self._waiting.remove(pending)
        pending.entry.enter(RequestState.EXPIRED)
        return before

    def complete(self, outcomes: Iterable[tuple[Pending, RequestState]]) -> None:
        """End requests as told, but for those that have an outcome."""
        for pending, state in outcomes:
            if pending.entry.state not in ENDS:
                pending.entry.enter(state)

    def next_to_route(self, now: float) -> list[Pending]:
        """Return an empty list: routes are chosen when requests run."""
        return []

    def price(self, prices: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None:
        """Do nothing: this queue is blind to cost."""

    def next_batch(self, now: float) -> ScheduledBatch:
        """Take the front of the queue."""
        batch = self._prefix()
        for pending in batch:
            self._waiting.popleft()
            pending.entry.enter(RequestState.RUNNING)
        return ScheduledBatch(BatchDecision(tuple(pending.entry for pending in batch)), tuple(batch))

    def finish_batch(self, batch: Iterable[Pending], now: float) -> None:
        """Do nothing: no record of batches is kept."""

    def refresh_costs(self) -> None:
        """Do nothing: this queue is blind to cost."""

    def work(self, now: float) -> float:
        """Return nan: the work is unknown."""
        return float("nan")

    def hold_until(self, now: float) -> float | None:
        """Return the time at which an idle device may take the front; None: now."""
        if not self.window or not self._waiting:
            return None
        time = self._waiting[0].entry.enqueued_at + self.window
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
