"""Which waiting requests run together, and when.

Pure: time is an argument. Knows no frames, no network and no clock; one queue feeds one device. A wait is never on a
timer: `take` answers what is best to run now, and is asked whenever the device is free.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from service.core.deadline import CLASSES, deadline_class, urgency
from service.core.errors import ClientLimit, DeadlineExceeded, QueueFull
from service.engine.scheduling.admission import Admission, WorkAhead
from service.engine.scheduling.cost_model import Bucket, RouteOption
from service.engine.scheduling.fair_queue import Entry, FairQueue, Key

#: Full batches without running out of memory after which a halved limit is raised by one again.
RECOVER_AFTER = 50
#: Withdrawn entries leave husks in the heaps; swept when there are this many and more than live ones.
HUSKS = 256


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
    predicted: float = 0.0  #: seconds the batch should take


@dataclass(slots=True)
class _Client:
    held: int = 0  #: waiting and running
    work: float = 0.0  #: least seconds of what waits


class BatchScheduler:
    """Waiting requests of one device, bounded in items and bytes, in one queue per bucket."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        #: Seconds a pass through the network costs whatever is in it, and the relative margin of predictions.
        self.overhead = 0.0
        self.margin = 0.0
        #: Rows that the device runs together. A larger batch would run in parts and only fix their order too early.
        self.together = limits.max_batch
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, Entry] = {}
        self._lanes: dict[Bucket, dict[int, FairQueue]] = {}
        self._unrouted: dict[Bucket, deque[Entry]] = {}
        self._urgent: list[tuple[int, float, int, Entry]] = []
        self._latest: list[Key] = []
        self._clients: dict[str, _Client] = {}
        self._nbytes = 0
        self._seq = 0
        self._husks = 0
        self._wanted = [0.0] * CLASSES
        self._least = [0.0] * CLASSES
        self._free_at = 0.0
        self._admission = Admission()
        self._caps: dict[Bucket, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Count the bytes held by waiting requests."""
        return self._nbytes

    @property
    def running(self) -> int:
        """Count the requests taken and not yet done."""
        return len(self._running)

    def oldest_age(self, now: float) -> float:
        """Return the seconds that the longest waiting request has waited."""
        return next((now - entry.enqueued for entry in self._entries.values()), 0.0)

    def work(self, now: float) -> float:
        """Predict the seconds until all that waits or runs is done, if nothing else came."""
        waiting = len(self._entries)
        batches = -(-waiting // self._most())
        return max(0.0, self._free_at - now) + sum(self._wanted) + batches * self.overhead

    def sizes(self) -> dict[Bucket, int]:
        """Count the waiting requests of each bucket (for people, not for the loop: it walks all of them)."""
        counts: dict[Bucket, int] = {}
        for entry in self._entries.values():
            counts[entry.bucket] = counts.get(entry.bucket, 0) + 1
        return counts

    # --- coming in ------------------------------------------------------------------------------------------------

    def put(self, entry: Entry, now: float) -> None:
        """Queue a request, or raise QueueFull, ClientLimit or DeadlineExceeded (what cannot be in time is refused)."""
        entry.enqueued = now
        entry.group = deadline_class(entry.priority, entry.deadline - now)
        self._admit(entry, now)
        self._seq += 1
        entry.seq, entry.waiting = self._seq, True
        self._entries[entry.id] = entry
        self._nbytes += entry.nbytes
        client = self._clients.setdefault(entry.client, _Client())
        client.held += 1
        self._count(entry, 1)
        heapq.heappush(self._latest, Key(self._latest_start(entry), entry.seq, entry))
        if entry.routed:
            self._line_up(entry)
        else:
            self._unrouted.setdefault(entry.bucket, deque()).append(entry)

    def unrouted(self, now: float) -> tuple[Entry, ...]:
        """Return the next requests of one bucket whose routes are to be chosen, at most a batch; () when none.

        Each is handed out once and lines up when `price` is told its route. The expired are left to `take`.
        """
        while self._unrouted:
            bucket = next(iter(self._unrouted))
            line, room = self._unrouted[bucket], self._room(bucket)
            entries: list[Entry] = []
            while line and len(entries) < room:
                entry = line.popleft()
                if not entry.waiting:
                    continue
                latest = self._latest_start(entry)
                if latest >= now:
                    entries.append(entry)
                else:
                    # What is known of costs may have changed since it came: `take` must find it under its new time.
                    heapq.heappush(self._latest, Key(latest, entry.seq, entry))
            if not line:
                del self._unrouted[bucket]
            if entries:
                return tuple(entries)
        return ()

    def price(self, entry: Entry, rungs: tuple[RouteOption, ...]) -> None:
        """Line up a request whose routes are chosen: it may run. Without effect if it was withdrawn meanwhile."""
        if not entry.waiting or entry.routed:
            return
        self._count(entry, -1)
        entry.rungs, entry.routed = rungs, True
        self._count(entry, 1)
        heapq.heappush(self._latest, Key(self._latest_start(entry), entry.seq, entry))
        self._line_up(entry)

    # --- going out ------------------------------------------------------------------------------------------------

    def take(self, now: float) -> BatchDecision:
        """Take the batch to run now. The most urgent request names the bucket, and only that bucket fills the batch."""
        late = self._expire(now)
        lead = self._most_urgent()
        if lead is None:
            return BatchDecision(expired=late)
        batch, limit, seconds = self._fill(lead, now)
        # What a trial is predicted to take is in doubt: it must not refuse others for longer than its caller waits.
        self._free_at = now + min([seconds, *(e.deadline - now for e in batch if e.trial is not None)])
        self._trim()
        return BatchDecision(batch, late, limit, seconds)

    def withdraw(self, id: str) -> bool:
        """Withdraw a request whose caller left; return True if it still waited and will never run."""
        entry = self._entries.get(id)
        if entry is None:
            return False
        self._leave(entry)
        self._release(entry)
        self._husks += 1
        self._sweep()
        return True

    def done(self, batch: tuple[Entry, ...], now: float) -> None:
        """Release a batch that was taken and answered: the device is free, and its clients' limits with it."""
        for entry in batch:
            if self._running.pop(entry.id, None) is not None:
                self._release(entry)
        if not self._running:
            self._free_at = now
            if not self._entries:
                self._admission.idle()
        if batch and (cap := self._caps.get(batch[0].bucket)) and len(batch) >= cap[0]:
            self._recover(batch[0].bucket, *cap)

    def trial_ran(self, entry: Entry, ratio: float) -> None:
        """Learn from a trial that took `ratio` times its predicted time; without effect on other requests."""
        self._admission.trial_ran(entry, ratio)

    def clear(self) -> tuple[Entry, ...]:
        """Remove and return all waiting requests, for a shutdown to answer."""
        entries = tuple(self._entries.values())
        for entry in entries:
            self._leave(entry)
            self._release(entry)
        self._husks += len(entries)
        self._sweep()
        return entries

    def shrink(self, bucket: Bucket, items: int) -> None:
        """Limit batches of this bucket to `items` for a while: the device ran out of memory."""
        self._caps[bucket] = (max(1, items), 0)

    # --- admission ------------------------------------------------------------------------------------------------

    def _admit(self, entry: Entry, now: float) -> None:
        limits, client = self.limits, self._clients.get(entry.client)
        if limits.client_items and client is not None and client.held >= limits.client_items:
            wait = (client.work + entry.least) * (1 + self.margin)
            raise ClientLimit(
                f"this client may have {limits.client_items} requests in flight", retry_after=max(wait, 0.001)
            )
        if len(self._entries) >= limits.max_items or self._nbytes + entry.nbytes > limits.max_bytes:
            raise QueueFull("too many requests are waiting", retry_after=max(self.work(now), 0.001))
        if entry.deadline <= now:
            raise DeadlineExceeded("the deadline has passed", reason="deadline")
        self._admission.check(entry, now, self._ahead(entry, now))

    def _ahead(self, entry: Entry, now: float) -> WorkAhead:
        client = self._clients.get(entry.client)
        return WorkAhead(
            start=max(now, self._free_at if self._running else now),
            busy=bool(self._running),
            waiting=len(self._entries),
            batches=1 + len(self._entries) // self._most(),
            work=sum(self._least[: entry.group + 1]),
            client_work=client.work if client else 0.0,
            clients=len(self._clients),
            overhead=self.overhead,
            margin=self.margin,
        )

    # --- filling --------------------------------------------------------------------------------------------------

    def _fill(self, lead: Entry, now: float) -> tuple[tuple[Entry, ...], str, float]:
        lanes, room = self._lanes[lead.bucket], min(self._room(lead.bucket), self._most())
        pressure = tuple(self._wanted)
        batch: list[Entry] = []
        total, steps, earliest = 0.0, 0, float("inf")
        limit = "empty"
        # The lead's class first, then the others of its bucket, shorter budgets first.
        for group in sorted(lanes, key=lambda group: (group != lead.group, group)):
            lane = lanes[group]
            while (entry := lane.peek()) is not None:
                if len(batch) >= room:
                    limit = "max" if room >= self._most() else "vram"
                    break
                longest, due = max(steps, entry.steps), min(earliest, entry.deadline)
                seconds = longest * self.overhead + total
                rung = self._rung(entry, now, due, seconds, pressure, first=not batch)
                if rung is None:
                    limit = "slack"
                    break
                lane.pop()
                self._leave(entry)
                self._running[entry.id] = entry
                entry.chosen = rung
                self._admission.ran()
                batch.append(entry)
                total, steps, earliest = total + rung.cost, longest, due
            if limit != "empty":
                break
            del lanes[group]
        if not lanes:
            del self._lanes[lead.bucket]
        return tuple(batch), limit, total + steps * self.overhead

    def _rung(
        self, entry: Entry, now: float, due: float, batch_seconds: float, pressure: tuple[float, ...], *, first: bool
    ) -> RouteOption | None:
        """Pick the dearest way that keeps the batch in time and leaves time for what else waits; None: none does."""
        # Alone it may use all the time it has: better late by the margin's odds than never tried.
        factor = 1.0 if first else 1.0 + self.margin
        share = float("inf")
        if len(entry.rungs) > 1 and (demand := sum(pressure[: entry.group + 1])) > entry.wanted:
            share = (entry.deadline - now) * entry.wanted / demand
        for rung in entry.rungs:
            in_share = rung.cost <= share or rung is entry.rungs[-1]
            if in_share and now + (batch_seconds + rung.cost) * factor <= due:
                return rung
        return entry.rungs[-1] if first else None

    def _most(self) -> int:
        return min(self.limits.max_batch, self.together)

    def _room(self, bucket: Bucket) -> int:
        most = min(self.limits.max_batch, self.limits.max_batch_pixels // bucket.pixels)
        if bucket in self._caps:
            most = min(most, self._caps[bucket][0])
        return max(1, most)

    def _recover(self, bucket: Bucket, cap: int, full: int) -> None:
        if full + 1 < RECOVER_AFTER:
            self._caps[bucket] = (cap, full + 1)
        elif cap + 1 < self.limits.max_batch:
            self._caps[bucket] = (cap + 1, 0)
        else:
            del self._caps[bucket]

    # --- keeping ----------------------------------------------------------------------------------------------------

    def _latest_start(self, entry: Entry) -> float:
        if entry.trial is not None:
            return entry.deadline
        return entry.deadline - entry.least - self.overhead * entry.steps

    def _line_up(self, entry: Entry) -> None:
        key = urgency(entry.enqueued, entry.deadline, entry.wanted)
        self._lanes.setdefault(entry.bucket, {}).setdefault(entry.group, FairQueue()).push(entry, key)
        heapq.heappush(self._urgent, (int(entry.priority), key, entry.seq, entry))

    def _most_urgent(self) -> Entry | None:
        while self._urgent and not self._urgent[0][3].waiting:
            heapq.heappop(self._urgent)
        return self._urgent[0][3] if self._urgent else None

    def _expire(self, now: float) -> tuple[Entry, ...]:
        late = []
        while self._latest and self._latest[0].key < now:
            entry = heapq.heappop(self._latest).entry
            if not entry.waiting:
                continue
            latest = self._latest_start(entry)  # its route or the overhead may have changed since
            if latest < now and self._is_tried_late(entry, now):
                latest = self._latest_start(entry)
            if latest < now:
                self._leave(entry)
                self._release(entry)
                late.append(entry)
                self._admission.expired()
            else:
                heapq.heappush(self._latest, Key(latest, entry.seq, entry))
        self._husks += len(late)
        return tuple(late)

    def _is_tried_late(self, entry: Entry, now: float) -> bool:
        """Tell whether to run a request all the same that, by what is known now, cannot be in time."""
        if entry.trial is not None:
            return False
        self._count(entry, -1)  # by its cost until now, which a trial's limit changes
        is_tried = self._admission.tried_late(entry, now, self.overhead)
        self._count(entry, 1)
        if is_tried and not entry.routed:
            self._unrouted.setdefault(entry.bucket, deque()).append(entry)  # `unrouted` may have left it to `take`
        return is_tried

    def _leave(self, entry: Entry) -> None:
        entry.waiting = False
        del self._entries[entry.id]
        self._nbytes -= entry.nbytes
        self._count(entry, -1)
        if not self._entries:  # sums of floats drift; an empty queue is exactly nothing
            self._wanted, self._least = [0.0] * CLASSES, [0.0] * CLASSES

    def _release(self, entry: Entry) -> None:
        client = self._clients[entry.client]
        client.held -= 1
        if not client.held:
            del self._clients[entry.client]

    def _count(self, entry: Entry, sign: int) -> None:
        self._wanted[entry.group] += sign * entry.wanted
        self._least[entry.group] += sign * entry.least
        self._clients[entry.client].work += sign * entry.least

    def _trim(self) -> None:
        """Drop taken entries from the heaps that only look at their heads: an infinite deadline never gets there."""
        most = 2 * len(self._entries) + HUSKS
        if len(self._latest) > most:
            self._latest = [Key(self._latest_start(entry), entry.seq, entry) for entry in self._entries.values()]
            heapq.heapify(self._latest)
        if len(self._urgent) > most:
            self._urgent = [key for key in self._urgent if key[3].waiting]
            heapq.heapify(self._urgent)

    def _sweep(self) -> None:
        if self._husks <= max(HUSKS, len(self._entries)):
            return
        self._husks = 0
        self._lanes, self._unrouted, self._urgent, self._latest = {}, {}, [], []
        for entry in self._entries.values():
            heapq.heappush(self._latest, Key(self._latest_start(entry), entry.seq, entry))
            if entry.routed:
                self._line_up(entry)
            else:
                # One being routed right now is handed out again; `price` takes the first answer only.
                self._unrouted.setdefault(entry.bucket, deque()).append(entry)
