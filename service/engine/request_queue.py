"""The queue that coroutines and the device thread share: the pure scheduler, its cost model, and one lock."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.core.types import Method, PredictRequest, PredictResult, Priority, Quality
from service.engine.scheduling.batch_scheduler import BatchDecision, BatchScheduler
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.mixture_costs import is_left_to_live
from service.engine.scheduling.pricing import DeviceCosts, needs_routing
from service.engine.scheduling.request_state import ENDS, RequestState


@dataclass(slots=True, eq=False)
class Pending:
    """A request in flight: its entry in the queue, which has its state, and the way to its caller."""

    request: PredictRequest
    entry: Entry
    deliver: Callable[[PredictResult | ServiceError], None]  #: gives the caller its outcome, if it still waits for one
    was_empty: bool = False  #: its first route was empty and got a block
    route_seconds: float = 0.0  #: of choosing its route ahead of its batch

    def tell_ahead(self, answer: PredictResult | ServiceError) -> None:
        """Tell whoever wants it of an answer that is about to be delivered, if its caller still waits."""
        on_result = self.request.on_result
        if on_result is not None and isinstance(answer, PredictResult) and self.entry.state is RequestState.RUNNING:
            on_result(answer)


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """What the device thread is to do: `decision`, and the requests that it names."""

    decision: BatchDecision
    batch: tuple[Pending, ...] = ()
    expired: tuple[Pending, ...] = ()
    waiting: int = 0  #: requests that waited before
    work: float = 0.0  #: predicted seconds of the batch and of all that still waits; told only where something expired


@dataclass(slots=True)
class RequestQueue:
    """Thread-safe. Every method holds the lock for microseconds, so the event loop may call them.

    Every change of a request's state happens with the lock held.
    """

    scheduler: BatchScheduler
    device_costs: DeviceCosts | None = None  #: set once, before the first request
    knows_motion: Callable[[Bucket, PredictRequest], bool] = lambda bucket, request: False  #: set with it
    _in_flight: dict[str, Pending] = field(default_factory=dict)
    _chores: deque[Iterator[None]] = field(default_factory=deque)  #: done step by step between batches
    _lock: threading.RLock = field(default_factory=threading.RLock)
    #: Wakes the device thread. No Condition: that is Python code, some fourteen calls a request; this is C.
    _wakeups: SimpleQueue[None] = field(default_factory=SimpleQueue)
    _is_asleep: bool = False  #: the device thread has looked, and waits for a wake-up
    _is_closed: bool = False

    def __len__(self) -> int:
        """Count the requests in flight: waiting, running, or with an outcome that is not delivered."""
        return len(self._in_flight)

    # --- called by coroutines ----------------------------------------------------------------------------------

    def enqueue(self, pending: Pending, now: float) -> None:
        """Admit the request, or raise what the scheduler raises."""
        with self._lock:
            self._estimate_cost(pending.entry, pending.request)
            self.scheduler.enqueue(pending.entry, now)
            self._in_flight[pending.entry.id] = pending
            self._wake()

    def cancel(self, pending: Pending) -> RequestState:
        """End a request whose caller left; return its state before. What has an outcome keeps it."""
        return self._end(pending, RequestState.CANCELLED)

    def expire(self, pending: Pending) -> RequestState:
        """End a request whose deadline has passed; return its state before. What has an outcome keeps it."""
        return self._end(pending, RequestState.EXPIRED)

    def complete(self, outcomes: Iterable[tuple[Pending, RequestState]]) -> None:
        """End requests as told, but for those that have an outcome: none of them is in flight any more."""
        with self._lock:
            for pending, state in outcomes:
                if pending.entry.state not in ENDS:
                    pending.entry.enter(state)
                self._in_flight.pop(pending.entry.id, None)

    def post(self, chore: Iterator[None]) -> None:
        """Have the device thread take the steps of `chore`, one after each batch, or at once where nothing waits."""
        with self._lock:
            self._chores.append(chore)
            self._wake()

    def close(self) -> None:
        """Wake the device thread for the last time."""
        with self._lock:
            self._is_closed = True
            self._wake()

    def clear(self) -> list[Pending]:
        """End every request, waiting or running, as failed; return them all, for a last word."""
        with self._lock:
            self.scheduler.clear()
            requests = list(self._in_flight.values())
            for pending in requests:
                if pending.entry.state not in ENDS:
                    pending.entry.enter(RequestState.FAILED)
            self._in_flight.clear()
            return requests

    def gauges(self, now: float) -> tuple[int, int, float, int, float]:
        """Return items and bytes waiting, the oldest's age, requests in flight, and predicted seconds of work."""
        with self._lock:
            queue = self.scheduler
            return len(queue), queue.nbytes, queue.oldest_age(now), len(self._in_flight), queue.work(now)

    def ages(self, now: float) -> dict[Priority, float]:
        """Return the seconds that the longest waiting request of each class has waited."""
        with self._lock:
            return {priority: self.scheduler.oldest_age(now, priority) for priority in Priority}

    def sizes(self) -> dict[Bucket, int]:
        """Count the waiting requests of each bucket."""
        with self._lock:
            return self.scheduler.sizes()

    # --- called by a worker of the queue that feeds this one -----------------------------------------------------

    @property
    def device_rows(self) -> int:
        """Return the most requests that the device runs together, once it has started."""
        return self.scheduler.device_rows

    def costs(self) -> dict[str, Any] | None:
        """Return what runs on this device have cost, as `DeviceCosts.read` takes it; None before it has started."""
        return None if self.device_costs is None else self.device_costs.as_dict()

    def set_backlog(self, seconds: float) -> None:
        """Tell what this device's part of the queue that feeds this one would like, in seconds: it shortens routes."""
        with self._lock:
            self.scheduler.backlog = seconds

    # --- called by the device thread ---------------------------------------------------------------------------

    def wait(self) -> bool:
        """Sleep until a request or a chore waits; False when closed."""
        while self._is_idle():
            self._wakeups.get()
        return not self._is_closed

    @property
    def has_chores(self) -> bool:
        """Tell whether a chore has steps left."""
        return bool(self._chores)

    def take_step(self) -> None:
        """Take one step of the oldest chore, without the lock; it is over when it has no more."""
        if self._chores:
            try:
                next(self._chores[0])
            except StopIteration:
                self._chores.popleft()

    def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, or less where something waits or comes, or the queue is closed."""
        if self._is_idle():
            with contextlib.suppress(Empty):
                self._wakeups.get(timeout=seconds)

    def next_to_route(self, now: float) -> list[Pending]:
        """Return the next requests of one bucket whose routes must be chosen before they line up.

        When they would be in time even with every block and after all that waits, they line up unrouted: `run`
        chooses their routes on its way, which saves handing their frames to the device twice. Nor is a route chosen for
        those that only the live head can answer in time.
        """
        with self._lock:
            while entries := self.scheduler.next_to_route(now):
                passes = self._costs().network.passes
                for entry in entries:
                    if is_left_to_live(entry.route_options, entry.deadline - now - entry.steps * passes):
                        behind = [option for option in entry.route_options if option.live or option.shifted]
                        self.scheduler.price(entry, (entry.route_options[0], *behind))
                requests = [self._in_flight[e.id] for e in entries if e.state is RequestState.ROUTING]
                if requests and not self._surely_in_time(requests, now):
                    return requests
                for pending in requests:
                    self.scheduler.price(pending.entry, pending.entry.route_options[:1])
            return []

    def price(self, prices: Iterable[tuple[Pending, tuple[RouteOption, ...]]]) -> None:
        """Line up requests whose routes are chosen."""
        with self._lock:
            for pending, route_options in prices:
                self.scheduler.price(pending.entry, route_options)

    def next_batch(self, now: float) -> ScheduledBatch:
        """Return the batch to run now, and what has expired."""
        with self._lock:
            waiting = len(self.scheduler)
            decision = self.scheduler.next_batch(now)
            batch = tuple([self._in_flight[entry.id] for entry in decision.batch])
            if not decision.expired:
                return ScheduledBatch(decision, batch, waiting=waiting)
            late = tuple([self._in_flight[entry.id] for entry in decision.expired])
            return ScheduledBatch(decision, batch, late, waiting, self.scheduler.work(now))

    def finish_batch(self, batch: Iterable[Pending], now: float) -> None:
        """Note that a batch has run: the device is free and its clients may send more."""
        with self._lock:
            self.scheduler.finish_batch(tuple([pending.entry for pending in batch]), now)

    def refresh_costs(self) -> None:
        """Let the scheduler decide with what the cost model has learnt."""
        with self._lock:
            if self.device_costs is not None:
                network = self.device_costs.network
                self.scheduler.overhead, self.scheduler.margin = network.passes, network.margin

    def record_trial(self, batch: Iterable[Pending], ratio: float) -> None:
        """Tell the scheduler how a batch compared with its prediction: its trials proved or refuted that."""
        with self._lock:
            for pending in batch:
                self.scheduler.record_trial(pending.entry, ratio)

    def fail(self, requests: Iterable[Pending]) -> None:
        """End waiting requests whose routes could not be chosen; they never run."""
        with self._lock:
            for pending in requests:
                self.scheduler.withdraw(pending.entry.id, RequestState.FAILED)

    def shrink(self, bucket: Bucket, items: int) -> None:
        """Limit batches of this bucket to `items`: the device could not hold more."""
        with self._lock:
            self.scheduler.shrink(bucket, items)

    # --- with or without the lock --------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._is_asleep:
            self._is_asleep = False
            self._wakeups.put(None)

    def _is_idle(self) -> bool:
        """Tell whether nothing waits; then what comes next wakes the device thread."""
        with self._lock:
            self._is_asleep = not (self._is_closed or len(self.scheduler) or self._chores)
            return self._is_asleep

    def _end(self, pending: Pending, state: RequestState) -> RequestState:
        with self._lock:
            before = pending.entry.state
            if self.scheduler.withdraw(pending.entry.id, state):
                del self._in_flight[pending.entry.id]
            elif before is RequestState.RUNNING:  # it stays in flight until its batch is done
                pending.entry.enter(state)
            return before

    def _costs(self) -> DeviceCosts:
        if self.device_costs is None:
            raise RuntimeError("the queue knows no costs before the device has started")
        return self.device_costs

    def _estimate_cost(self, entry: Entry, request: PredictRequest) -> None:
        options = request.options
        entry.needs_route = entry.bucket.method is Method.DMVFN and needs_routing(options)
        costs = self._costs()
        entry.route_options = costs.route_options(entry.bucket, options)
        if options.allows_live and self.knows_motion(entry.bucket, request):
            ways, passes = entry.route_options, costs.network.passes
            entry.route_options = costs.mixtures.with_shifted(ways, entry.bucket, options.work, passes)
            entry.steps = 0

    def _surely_in_time(self, requests: list[Pending], now: float) -> bool:
        if any(pending.request.options.quality is Quality.ADAPTIVE for pending in requests):
            return False
        entries = [pending.entry for pending in requests]
        cost, steps = self._costs().network, max(entry.steps for entry in entries)
        full = [1.0] * len(cost.block_weights)
        most = sum(cost.cost(entry.bucket, full, entry.steps, entry.steps) for entry in entries)
        finish = now + (self.scheduler.work(now) + most + cost.passes * steps) * (1 + cost.margin)
        return finish <= min(entry.deadline for entry in entries)
