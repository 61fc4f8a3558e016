"""Which waiting requests run together, and when.

Pure: time is an argument. Knows no frames, no network and no clock; one queue feeds one device. A wait is never on a
timer: `next_batch` answers what is best to run now, and is asked whenever the device is free. Who is refused is
`admission`'s to say, who goes first `ready_requests`', who is too late `expiry_queue`'s, what fits a batch
`batch_filling`'s and `memory_caps`'.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from service.core.bucket import Bucket
from service.core.deadline import deadline_class
from service.core.errors import ClientLimit, DeadlineExceeded, QueueFull, ServiceError
from service.core.types import Priority
from service.engine.scheduling.admission import Admission, WorkAhead
from service.engine.scheduling.batch_filling import BatchBounds, fill
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.expiry_queue import ExpiryQueue
from service.engine.scheduling.memory_caps import MemoryCaps
from service.engine.scheduling.ready_requests import ReadyRequests
from service.engine.scheduling.request_state import RequestState
from service.engine.scheduling.workload import Workload

#: Withdrawn entries leave tombstones in the heaps; swept when there are this many and more than live ones.
TOMBSTONES = 256
#: Seconds after which background work goes before live work, and the share of the device that it may then take.
PATIENCE_S, PATIENT_SHARE = 20.0, 0.1


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the queue and of a batch. `client_items` 0: none."""

    max_batch: int = 8
    max_batch_pixels: int = 8 * 1088 * 1920
    max_items: int = 256
    max_bytes: int = 2**30
    client_items: int = 0


@dataclass(frozen=True, slots=True)
class BatchDecision:
    """What to run now: one bucket's `batch`; what can no longer be in time; and what kept the batch from growing."""

    batch: tuple[Entry, ...] = ()
    expired: tuple[Entry, ...] = ()
    limit: str = "empty"  #: empty (no more waiting), max (items), vram (pixels) or slack (a member's deadline)
    predicted_seconds: float = 0.0  #: seconds the batch should take


class BatchScheduler:
    """Waiting requests of one device, bounded in items and bytes, in one queue per bucket."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        #: Seconds a pass through the network costs whatever is in it, and the relative margin of predictions.
        self.overhead = 0.0
        self.margin = 0.0
        #: Rows that the device runs together. A larger batch would run in parts and only fix their order too early.
        self.device_rows = limits.max_batch
        #: Seconds that this device's part of a queue elsewhere, which feeds this one, would like; 0: there is none.
        self.backlog = 0.0
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, Entry] = {}
        self._to_route: dict[Bucket, deque[Entry]] = {}
        self._too_late_to_route: set[str] = set()  #: in none of them, until `_take_unmeetable` looks
        self._ready = ReadyRequests()
        self._expiry = ExpiryQueue()
        self._workload = Workload()
        self._admission = Admission()
        self._caps = MemoryCaps(limits.max_batch, limits.max_batch_pixels)
        self._nbytes = 0
        self._seq = 0
        self._tombstones = 0
        self._free_at = 0.0
        self._next_patient = 0.0  #: before, background work that has waited for long does not go before live work

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Count the bytes held by waiting requests."""
        return self._nbytes

    @property
    def running(self) -> int:
        """Count the requests that run or whose batch still does."""
        return len(self._running)

    def oldest_age(self, now: float, priority: Priority | None = None) -> float:
        """Return the seconds that the longest waiting request has waited, of one class or of any."""
        return next((now - e.enqueued_at for e in self._entries.values() if priority in (None, e.priority)), 0.0)

    def work(self, now: float) -> float:
        """Predict the seconds until all that waits or runs is done, if nothing else came."""
        waiting = len(self._entries)
        batches = -(-waiting // self._device_items())
        return max(0.0, self._free_at - now) + sum(self._workload.most) + batches * self.overhead

    def sizes(self) -> dict[Bucket, int]:
        """Count the waiting requests of each bucket (for people, not for the loop: it walks all of them)."""
        counts: dict[Bucket, int] = {}
        for entry in self._entries.values():
            counts[entry.bucket] = counts.get(entry.bucket, 0) + 1
        return counts

    # --- coming in ------------------------------------------------------------------------------------------------

    def enqueue(self, entry: Entry, now: float) -> None:
        """Queue a request, or raise QueueFull, ClientLimit or DeadlineExceeded (what cannot be in time is refused)."""
        entry.enqueued_at, entry.usual_seconds = now, entry.most_seconds
        entry.group = deadline_class(entry.priority, entry.deadline - now)
        try:
            self._admit(entry, now)
        except ServiceError:
            entry.enter(RequestState.REFUSED)
            raise
        entry.enter(RequestState.ROUTING if entry.needs_route else RequestState.READY)
        self._seq += 1
        entry.seq = self._seq
        self._entries[entry.id] = entry
        self._nbytes += entry.nbytes
        self._workload.admit(entry)
        self._workload.add(entry)
        self._expiry.add(entry, self._latest_start(entry))
        self._line_up(entry)

    def next_to_route(self, now: float) -> tuple[Entry, ...]:
        """Return the next requests of one bucket whose routes are to be chosen, at most a batch; () when none.

        Each is handed out once and lines up when `price` is told its route. The expired are left to `next_batch`.
        """
        while self._to_route:
            bucket = next(iter(self._to_route))
            line, most = self._to_route[bucket], self._caps.most(bucket)
            entries: list[Entry] = []
            while line and len(entries) < most:
                entry = line.popleft()
                if entry.state is not RequestState.ROUTING:
                    continue
                latest = self._latest_start(entry)
                if latest >= now:
                    entries.append(entry)
                else:
                    # What is known of costs may have changed meanwhile: `next_batch` must find it under its new time.
                    self._expiry.add(entry, latest)
                    self._too_late_to_route.add(entry.id)
            if not line:
                del self._to_route[bucket]
            if entries:
                return tuple(entries)
        return ()

    def price(self, entry: Entry, route_options: tuple[RouteOption, ...]) -> None:
        """Line up a request whose routes are chosen: it may run. Without effect if it was withdrawn meanwhile."""
        if entry.state is not RequestState.ROUTING:
            return
        self._workload.remove(entry)
        entry.route_options = route_options
        entry.enter(RequestState.READY)
        self._workload.add(entry)
        self._expiry.add(entry, self._latest_start(entry))
        self._ready.add(entry)

    # --- going out ------------------------------------------------------------------------------------------------

    def next_batch(self, now: float) -> BatchDecision:
        """Take the batch to run now. The most urgent request names the bucket, and only that bucket fills the batch."""
        late = self._take_unmeetable(now)
        lead = self._ready.most_urgent(now - PATIENCE_S if now >= self._next_patient else -math.inf)
        if lead is None:
            return BatchDecision(expired=late)
        device_items = self._device_items()
        bounds = BatchBounds(
            items=min(self._caps.most(lead.bucket), device_items),
            device_items=device_items,
            overhead=self.overhead,
            margin=self.margin,
            demand=tuple(self._workload.most),
            backlog=self.backlog,
        )
        batch = fill(self._ready.queues(lead.bucket), lead, bounds, now)
        self._ready.drop_empty(lead.bucket)
        seconds = batch.seconds
        for entry, option in batch.members:
            self._leave(entry, RequestState.RUNNING)
            self._running[entry.id] = entry
            entry.selection = option
            self._admission.record_run()
            if entry.trial is not None:
                # What it is predicted to take is in doubt: it must not refuse others for longer than its caller waits.
                seconds = min(seconds, entry.deadline - now)
        self._free_at = now + seconds
        if lead.priority is not Priority.LIVE:
            self._next_patient = now + seconds / PATIENT_SHARE
        self._trim()
        return BatchDecision(tuple(entry for entry, _ in batch.members), late, batch.limit, batch.seconds)

    def withdraw(self, id: str, state: RequestState = RequestState.CANCELLED) -> bool:
        """Withdraw a waiting request, which ends as `state`; return False, and do nothing, if it does not wait."""
        entry = self._entries.get(id)
        if entry is None:
            return False
        self._leave(entry, state)
        self._workload.release(entry)
        self._tombstones += 1
        self._sweep()
        return True

    def finish_batch(self, batch: tuple[Entry, ...], now: float) -> None:
        """Release a batch that has run: the device is free, and its clients' limits with it."""
        for entry in batch:
            if self._running.pop(entry.id, None) is not None:
                self._workload.release(entry)
        if not self._running:
            self._free_at = now
            if not self._entries:
                self._admission.record_idle()
                self._ready.shares.rest()
        if batch:
            self._caps.record_batch(batch[0].bucket, len(batch))

    def record_trial(self, entry: Entry, ratio: float) -> None:
        """Learn from a trial that took `ratio` times its predicted time; without effect on other requests."""
        self._admission.record_trial(entry, ratio)

    def clear(self) -> tuple[Entry, ...]:
        """Remove and return all waiting requests, for a shutdown to answer: they end as failed."""
        entries = tuple(self._entries.values())
        for entry in entries:
            self._leave(entry, RequestState.FAILED)
            self._workload.release(entry)
        self._tombstones += len(entries)
        self._sweep()
        return entries

    def shrink(self, bucket: Bucket, items: int) -> None:
        """Limit batches of this bucket to `items` for a while: the device ran out of memory."""
        self._caps.shrink(bucket, items)

    # --- admission ------------------------------------------------------------------------------------------------

    def _admit(self, entry: Entry, now: float) -> None:
        limits, client = self.limits, self._workload.clients.get(entry.client)
        if limits.client_items and client is not None and client.in_flight >= limits.client_items:
            wait = (client.least + entry.least_seconds) * (1 + self.margin)
            raise ClientLimit(
                f"this client may have {limits.client_items} requests in flight", retry_after=max(wait, 0.001)
            )
        if len(self._entries) >= limits.max_items or self._nbytes + entry.nbytes > limits.max_bytes:
            raise QueueFull("too many requests are waiting", retry_after=max(self.work(now), 0.001))
        if entry.deadline <= now:
            raise DeadlineExceeded("the deadline has passed", reason="deadline")
        self._admission.check(entry, now, self._ahead(entry, now))

    def _ahead(self, entry: Entry, now: float) -> WorkAhead:
        workload = self._workload
        client = workload.clients.get(entry.client)
        return WorkAhead(
            start=max(now, self._free_at if self._running else now),
            busy=bool(self._running),
            waiting=len(self._entries),
            batches=1 + len(self._entries) // self._device_items(),
            work=sum(workload.least[: entry.group + 1]),
            client_work=client.least if client else 0.0,
            clients=len(workload.clients),
            overhead=self.overhead,
            margin=self.margin,
        )

    def _device_items(self) -> int:
        return min(self.limits.max_batch, self.device_rows)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def _latest_start(self, entry: Entry) -> float:
        if entry.trial is not None:
            return entry.deadline
        return entry.deadline - entry.least_seconds - self.overhead * entry.steps

    def _line_up(self, entry: Entry) -> None:
        if entry.state is RequestState.READY:
            self._ready.add(entry)
        else:
            self._to_route.setdefault(entry.bucket, deque()).append(entry)

    def _take_unmeetable(self, now: float) -> tuple[Entry, ...]:
        late = []
        while (entry := self._expiry.pop_before(now)) is not None:
            latest = self._latest_start(entry)  # its route or the overhead may have changed since
            if latest < now and self._is_tried_late(entry, now):
                latest = self._latest_start(entry)
            if latest < now:
                self._leave(entry, RequestState.EXPIRED)
                self._workload.release(entry)
                late.append(entry)
                self._admission.record_expiry()
            else:
                self._expiry.add(entry, latest)
                if entry.id in self._too_late_to_route and entry.state is RequestState.ROUTING:
                    self._line_up(entry)  # costs have become less since
            self._too_late_to_route.discard(entry.id)
        self._tombstones += len(late)
        return tuple(late)

    def _is_tried_late(self, entry: Entry, now: float) -> bool:
        """Tell whether to run a request all the same that, by what is known now, cannot be in time."""
        if entry.trial is not None:
            return False
        self._workload.remove(entry)  # by its cost until now, which a trial's limit changes
        is_tried = self._admission.is_tried_late(entry, now, self.overhead)
        self._workload.add(entry)
        return is_tried

    def _leave(self, entry: Entry, state: RequestState) -> None:
        entry.enter(state)
        del self._entries[entry.id]
        self._too_late_to_route.discard(entry.id)
        self._nbytes -= entry.nbytes
        self._workload.remove(entry)
        if not self._entries:
            self._workload.reset()

    def _trim(self) -> None:
        """Drop taken entries from the heaps that only look at their heads: an infinite deadline never gets there."""
        most = 2 * len(self._entries) + TOMBSTONES
        if len(self._expiry) > most:
            self._expiry.rebuild(self._moments())
        self._ready.trim(most)

    def _sweep(self) -> None:
        if self._tombstones <= max(TOMBSTONES, len(self._entries)):
            return
        self._tombstones = 0
        self._to_route = {}
        self._ready.clear()
        self._expiry.rebuild(self._moments())
        for entry in self._entries.values():
            # One being routed right now is handed out again; `price` takes the first answer only.
            self._line_up(entry)

    def _moments(self) -> Iterator[tuple[Entry, float]]:
        return ((entry, self._latest_start(entry)) for entry in self._entries.values())
