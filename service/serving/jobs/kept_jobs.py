"""The jobs that a process keeps: what each holder's take, whose results make room, which have expired.

A holder is an API key, or the address of who has none. Nothing here looks through all jobs: sums run along.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from service.core.errors import QueueFull, TooLarge
from service.core.types import PredictResult
from service.serving.answer_size import result_nbytes
from service.serving.jobs.job import LISTED, JobState, JobView, NewJob

log = logging.getLogger(__name__)

#: Bytes of a job's record beside its frames and results: measured, rounded up.
RECORD_BYTES = 4096
#: Of places and bytes, what one holder's open jobs may take; the rest is left to others. A single job may take all.
SHARE = 0.75


@dataclass(eq=False)
class KeptJob:
    """One job and its results."""

    client: str
    holder: str
    fingerprint: str
    webhook: str | None
    view: JobView
    job: NewJob | None  #: with its frames, which are let go of once it has ended
    nbytes: int  #: of record and frames: those given and those to come; once it has ended of record and results
    results: dict[int, PredictResult] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  #: items whose result was asked for
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def expendable(self) -> bool:
        """Tell whether nobody is likely to miss it: all of it was fetched, or it was withdrawn."""
        return self.view.state is JobState.CANCELLED or len(self.taken) == self.view.items


@dataclass(eq=False)
class _Holder:
    nbytes: int = 0
    open_bytes: int = 0
    open_items: int = 0
    jobs: int = 0
    finished: OrderedDict[str, None] = field(default_factory=OrderedDict)  #: ids, oldest first


class KeptJobs:
    """All of them, at most `max_items` predictions to make and `max_bytes`; finished ones for `ttl` seconds."""

    def __init__(self, max_items: int, max_bytes: int, ttl: float) -> None:
        self.max_items, self.max_bytes, self._ttl = max_items, max_bytes, ttl
        self.nbytes = 0
        self.open_items = 0
        self._jobs: dict[str, KeptJob] = {}
        self._owned: dict[str, dict[str, None]] = {}  #: client -> ids of its jobs, oldest first
        self._holders: dict[str, _Holder] = {}
        self._queued: dict[str, KeptJob] = {}  #: not begun, oldest first
        self._expendable: OrderedDict[str, None] = OrderedDict()
        self._ended: deque[tuple[float, str]] = deque()  #: when and which, oldest first

    def __len__(self) -> int:
        return len(self._jobs)

    def of_client(self, client: str) -> list[KeptJob]:
        """List a client's jobs, newest first: LISTED at most."""
        return [self._jobs[job] for job in itertools.islice(reversed(self._owned.get(client, {})), LISTED)]

    def open(self) -> list[KeptJob]:
        """List the jobs that are not final."""
        return [entry for entry in self._jobs.values() if not entry.view.state.final]

    def get(self, job: str) -> KeptJob | None:
        """Return the job, or None if it is not kept."""
        return self._jobs.get(job)

    def position(self, entry: KeptJob) -> int:
        """Count the items of the jobs before this one, none of which has begun."""
        items = 0
        for other in self._queued.values():
            if other is entry:
                break
            items += other.view.items
        return items

    def add(self, entry: KeptJob) -> None:
        """Keep a new job. Raises TooLarge if it could never fit, QueueFull if it does not now."""
        holder = self._holders.get(entry.holder) or _Holder()
        self._check(entry.view.items, entry.nbytes, holder)
        self._make_room(entry.nbytes, entry.holder, holder)
        self._holders[entry.holder] = holder
        holder.jobs += 1
        holder.nbytes += entry.nbytes
        holder.open_bytes += entry.nbytes
        holder.open_items += entry.view.items
        self.nbytes += entry.nbytes
        self.open_items += entry.view.items
        self._jobs[entry.view.id] = self._queued[entry.view.id] = entry
        self._owned.setdefault(entry.client, {})[entry.view.id] = None

    def moved(self, entry: KeptJob, before: JobView) -> None:
        """Follow a job from its view `before` to the one it has now."""
        view, holder = entry.view, self._holders[entry.holder]
        if view.state is not JobState.QUEUED:
            self._queued.pop(view.id, None)
        remaining = 0 if view.state.final else view.items - view.done
        change = remaining - (before.items - before.done)
        holder.open_items += change
        self.open_items += change

    def ended(self, entry: KeptJob, now: float) -> None:
        """Count a final job by its results from now on; `now` in seconds on any one clock."""
        holder, nbytes = self._holders[entry.holder], RECORD_BYTES + sum(map(result_nbytes, entry.results.values()))
        holder.open_bytes -= entry.nbytes
        holder.nbytes += nbytes - entry.nbytes
        self.nbytes += nbytes - entry.nbytes
        entry.nbytes = nbytes
        holder.finished[entry.view.id] = None
        self._ended.append((now, entry.view.id))
        self.fetched(entry)

    def fetched(self, entry: KeptJob) -> None:
        """Note that a job may have become expendable."""
        if entry.view.state.final and entry.expendable:
            self._expendable.setdefault(entry.view.id)

    def forget(self, now: float) -> None:
        """Drop what ended longer than the time to live ago."""
        while self._ended and (self._ended[0][0] < now - self._ttl or self._ended[0][1] not in self._jobs):
            _, job = self._ended.popleft()
            if job in self._jobs:
                self.drop(self._jobs[job])

    def drop(self, entry: KeptJob) -> None:
        """Let go of a final job and its results."""
        job, holder = entry.view.id, self._holders[entry.holder]
        del self._jobs[job]
        owned = self._owned[entry.client]
        del owned[job]
        if not owned:
            del self._owned[entry.client]
        self._expendable.pop(job, None)
        holder.finished.pop(job, None)
        holder.nbytes -= entry.nbytes
        holder.jobs -= 1
        self.nbytes -= entry.nbytes
        if not holder.jobs:
            del self._holders[entry.holder]

    def _check(self, items: int, nbytes: int, holder: _Holder) -> None:
        if items > self.max_items:
            raise TooLarge(f"at most {self.max_items} predictions fit the queue", field="frames")
        if nbytes > self.max_bytes:
            raise TooLarge(
                f"frames given and predicted would take {nbytes} bytes; at most {self.max_bytes} fit", field="frames"
            )
        if self.open_items + items > self.max_items:
            raise QueueFull("the queue holds as many items as it may", retry_after=5.0)
        if holder.open_bytes and holder.open_bytes + nbytes > self.max_bytes * SHARE:
            raise QueueFull("your open jobs hold as many bytes as one caller's may", retry_after=5.0)
        if holder.open_items and holder.open_items + items > self.max_items * SHARE:
            raise QueueFull("your open jobs hold as many items as one caller's may", retry_after=5.0)

    def _make_room(self, nbytes: int, name: str, holder: _Holder) -> None:
        while self.nbytes + nbytes > self.max_bytes:
            least_missed = next(iter(self._expendable), None) or self._oldest_of_largest(name, holder.nbytes)
            if least_missed is None:
                raise QueueFull(
                    "jobs and their results hold as many bytes as they may; results that were fetched make room",
                    retry_after=30.0,
                )
            self.drop(self._jobs[least_missed])

    def _oldest_of_largest(self, name: str, nbytes: int) -> str | None:
        """The oldest finished job of whoever holds most, and more than `nbytes`; none of `name`'s own."""
        others = (holder for other, holder in self._holders.items() if other != name and holder.finished)
        largest = max(others, key=lambda holder: holder.nbytes, default=None)
        if largest is None or largest.nbytes <= nbytes:
            return None
        oldest = next(iter(largest.finished))
        log.info("job %s was finished but not fetched: it made room for another caller's", oldest)
        return oldest
