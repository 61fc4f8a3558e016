"""Wakes whoever waits for news of a job when the queue tells that it moved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from service.serving.jobs.clip_jobs import ClipView
from service.serving.jobs.job import JobView

View = TypeVar("View", JobView, ClipView)

#: Watchers look again after this long in any case: a hint may be lost in a failover, the state is not.
LOOK_AGAIN_S = 5.0


class JobWatchers:
    """The watchers of one front end; `moved` takes the ids of jobs that moved."""

    def __init__(self) -> None:
        self._hints: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._any: set[asyncio.Event] = set()

    @contextlib.contextmanager
    def watching(self, job: str) -> Iterator[asyncio.Event]:
        """Set the event yielded whenever the job moves."""
        hint = asyncio.Event()
        self._hints[job].add(hint)
        try:
            yield hint
        finally:
            self._hints[job].discard(hint)
            if not self._hints[job]:
                del self._hints[job]

    async def changed(self, seen: View, get: Callable[[], Awaitable[View]], seconds: float) -> View:
        """Return how a job stands, which `get` asks, once that is not as it was `seen`, or after so many seconds."""
        deadline = time.monotonic() + seconds
        with self.watching(seen.id) as hint:
            while True:
                hint.clear()
                view = await get()
                seconds_left = deadline - time.monotonic()
                if not view.same_as(seen) or seconds_left <= 0:
                    return view
                await hinted(hint, seconds_left)

    @contextlib.contextmanager
    def watching_all(self) -> Iterator[asyncio.Event]:
        """Set the event yielded whenever any job moves."""
        hint = asyncio.Event()
        self._any.add(hint)
        try:
            yield hint
        finally:
            self._any.discard(hint)

    def moved(self, ids: list[str]) -> None:
        """Wake the watchers of these jobs; an empty list wakes all: anything may have happened."""
        for hint in self._any:
            hint.set()
        for job in ids or list(self._hints):
            for hint in self._hints.get(job, ()):
                hint.set()


async def hinted(hint: asyncio.Event, seconds: float) -> None:
    """Return when `hint` is set, after LOOK_AGAIN_S or `seconds` at the latest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, min(seconds, LOOK_AGAIN_S))):
            await hint.wait()
