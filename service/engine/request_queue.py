"""The waiting line that coroutines and the device thread share: the pure queue, its cost model, and one lock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.core.types import PredictRequest, PredictResult, Quality, RoutePolicy
from service.engine.rollout import needs_routing
from service.engine.scheduling.batch_queue import BatchDecision, BatchScheduler
from service.engine.scheduling.cost_model import Bucket, CostModel, RouteOption
from service.engine.scheduling.entry import Entry


@dataclass(slots=True, eq=False)
class Pending:
    """A request in flight: its place in the queue, the future its caller awaits, and what is known of its time."""

    request: PredictRequest
    entry: Entry
    future: asyncio.Future[PredictResult]
    wanted: bool = True  #: False once nobody waits for the answer
    was_empty: bool = False
    route_seconds: float = 0.0
    taken_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """What the device thread was told to do: `take`, and the requests that it names."""

    take: BatchDecision
    batch: tuple[Pending, ...] = ()
    expired: tuple[Pending, ...] = ()
    work: float = 0.0  #: predicted seconds of all that still waits and of the batch


@dataclass(slots=True)
class RequestQueue:
    """Thread-safe. Every method holds the lock for microseconds, so the event loop may call them."""

    queue: BatchScheduler
    cost: CostModel | None = None  #: set once, before the first request
    _pending: dict[str, Pending] = field(default_factory=dict)
    _work: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def __len__(self) -> int:
        return len(self._pending)

    # --- called by coroutines ----------------------------------------------------------------------------------

    def join(self, pending: Pending, now: float) -> None:
        """Admit the request, or raise what the queue raises."""
        with self._work:
            self._price_unrouted(pending.entry, pending.request)
            self.queue.put(pending.entry, now)
            self._pending[pending.entry.id] = pending
            self._work.notify()

    def leave(self, pending: Pending) -> bool:
        """Withdraw a request that nobody waits for; return True if it was still in the queue and will never run."""
        with self._work:
            pending.wanted = False
            if not self.queue.withdraw(pending.entry.id):
                return False
            del self._pending[pending.entry.id]
            return True

    def forget(self, requests: Iterable[Pending]) -> None:
        """Forget requests whose answers have been delivered: they are no longer in flight."""
        with self._work:
            for pending in requests:
                self._pending.pop(pending.entry.id, None)

    def close(self) -> None:
        """Wake the device thread for the last time."""
        with self._work:
            self._closed = True
            self._work.notify_all()

    def clear(self) -> list[Pending]:
        """Forget every request, waiting or running; return them all, for a last word."""
        with self._work:
            self.queue.clear()
            requests = list(self._pending.values())
            for pending in requests:
                pending.wanted = False
            self._pending.clear()
            return requests

    def gauges(self, now: float) -> tuple[int, int, float, int, float]:
        """Return items and bytes waiting, the oldest's age, requests in flight, and predicted seconds of work."""
        with self._work:
            queue = self.queue
            return len(queue), queue.nbytes, queue.oldest_age(now), len(self._pending), queue.work(now)

    def sizes(self) -> dict[Bucket, int]:
        """Count the waiting requests of each bucket."""
        with self._work:
            return self.queue.sizes()

    # --- called by the device thread ---------------------------------------------------------------------------

    def wait(self) -> bool:
        """Sleep until something waits; False when closed."""
        with self._work:
            while not self._closed and not len(self.queue):
                self._work.wait()
            return not self._closed

    def arrivals(self, now: float) -> list[Pending]:
        """Return the next requests of one bucket whose routes must be chosen before they line up.

        When they would be in time even with every block and after all that waits, they line up unrouted: `run`
        chooses their routes on its way, which saves handing their frames to the device twice.
        """
        with self._work:
            while entries := self.queue.unrouted(now):
                requests = [self._pending[entry.id] for entry in entries]
                if not self._surely_in_time(requests, now):
                    return requests
                for entry in entries:
                    self.queue.price(entry, entry.rungs[:1])
            return []

    def price(self, prices: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None:
        """Line up requests whose routes are chosen."""
        with self._work:
            for pending, rungs in prices:
                self.queue.price(pending.entry, rungs)

    def take(self, now: float) -> ScheduledBatch:
        """Return the batch to run now, and what has expired."""
        with self._work:
            take = self.queue.take(now)
            batch = tuple(self._pending[entry.id] for entry in take.batch)
            for pending in batch:
                pending.taken_at = now
            late = tuple(self._pending[entry.id] for entry in take.expired)
            return ScheduledBatch(take, batch, late, self.queue.work(now))

    def done(self, batch: Iterable[Pending], now: float) -> None:
        """Note that a batch has run: the device is free and its clients may send more."""
        with self._work:
            self.queue.done(tuple(pending.entry for pending in batch), now)

    def learned(self) -> None:
        """Let the queue decide with what the cost model has learnt."""
        with self._work:
            self._learned()

    def trial_ran(self, batch: Iterable[Pending], ratio: float) -> None:
        """Tell the queue how a batch compared with its prediction: its trial requests proved or refuted that."""
        with self._work:
            for pending in batch:
                self.queue.trial_ran(pending.entry, ratio)

    def drop(self, requests: Iterable[Pending]) -> None:
        """Drop requests whose routes could not be chosen; they leave without running."""
        with self._work:
            for pending in requests:
                self.queue.withdraw(pending.entry.id)

    def shrink(self, bucket: Bucket, items: int) -> None:
        """Limit batches of this bucket: the device could not hold `items`."""
        with self._work:
            self.queue.shrink(bucket, items)

    # --- with the lock held ------------------------------------------------------------------------------------

    def _cost(self) -> CostModel:
        if self.cost is None:
            raise RuntimeError("the line has no cost model before the device has started")
        return self.cost

    def _learned(self) -> None:
        if self.cost is not None:
            self.queue.overhead, self.queue.margin = self.cost.passes, self.cost.margin

    def _price_unrouted(self, entry: Entry, request: PredictRequest) -> None:
        cost, options = self._cost(), request.options
        choice, adaptive = options.route, options.quality is Quality.ADAPTIVE
        blocks = len(cost.block_weights)
        if not needs_routing(options):
            route = choice.bits if choice.policy is RoutePolicy.EXPLICIT and choice.bits else (True,) * blocks
            entry.rungs, entry.routed = cost.rungs(entry.bucket, route, None, options.steps, 0), True
            return
        entry.routed = False
        entry.rungs = cost.rungs(
            entry.bucket, None, (1.0,) * blocks if adaptive else None, options.steps, options.steps
        )
        if choice.policy is RoutePolicy.BUDGET and choice.blocks is not None and not adaptive:
            share = [choice.blocks / blocks] * blocks
            entry.rungs = (RouteOption(cost.cost(entry.bucket, share, options.steps, options.steps)),)

    def _surely_in_time(self, pending: list[Pending], now: float) -> bool:
        if any(p.request.options.quality is Quality.ADAPTIVE for p in pending):
            return False
        cost, steps = self._cost(), max(p.entry.steps for p in pending)
        full = [1.0] * len(cost.block_weights)
        most = sum(cost.cost(p.entry.bucket, full, p.entry.steps, p.entry.steps) for p in pending)
        finish = now + (self.queue.work(now) + most + cost.passes * steps) * (1 + cost.margin)
        return finish <= min(p.entry.deadline for p in pending)
