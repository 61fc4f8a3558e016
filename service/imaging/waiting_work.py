"""Work that waits for a thread, what is due first before the rest. Knows nothing of images.

A standard executor is first come first served: a request with milliseconds would wait behind a job's pictures.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Work(NamedTuple):
    """What waits; sorts by its deadline, then by when it came."""

    deadline: float
    number: int
    run: Callable[[], Any]
    future: Future[Any]


class WaitingWork:
    """A heap for any threads. Whoever adds work has an executor take some, which may be another's that is due first."""

    def __init__(self) -> None:
        self._heap: list[Work] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def add(self, run: Callable[[], T], deadline: float) -> Future[T]:
        """Add work, due at `deadline` seconds of any clock, the same for all; the future is for what `run` returns."""
        future: Future[T] = Future()
        with self._lock:
            heapq.heappush(self._heap, Work(deadline, next(self._numbers), run, future))
        return future

    def take(self) -> Work:
        """Take out what is due first. IndexError where nothing waits."""
        with self._lock:
            return heapq.heappop(self._heap)

    def cancel(self) -> None:
        """Take out all, and cancel it."""
        with self._lock:
            works, self._heap = self._heap, []
        for work in works:
            work.future.cancel()
