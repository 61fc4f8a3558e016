"""An executor whose threads take what is due first. Knows nothing of images.

A standard executor is first come first served: a request with milliseconds would wait behind a job's pictures.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Work(NamedTuple):
    """What waits for a thread; sorts by its deadline, then by when it came."""

    deadline: float
    number: int
    run: Callable[[], Any]
    future: Future[Any]


class DeadlineExecutor:
    """A standard executor that is asked, for each work, to do whichever of all that wait is due first."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: list[_Work] = []  #: a heap
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # around the heap

    def submit(self, run: Callable[[], T], deadline: float) -> Future[T]:
        """Have `run` called in a thread; from any thread. RuntimeError once shut down.

        `deadline` in seconds of any clock, the same for all. Cancelling the future drops work that has not begun.
        """
        future: Future[T] = Future()
        with self._lock:
            heapq.heappush(self._waiting, _Work(deadline, next(self._numbers), run, future))
        self._executor.submit(self._do_most_urgent)
        return future

    def shutdown(self) -> None:
        """Wait for work that has begun; cancel the rest."""
        self._executor.shutdown(cancel_futures=True)
        with self._lock:
            dropped, self._waiting = self._waiting, []
        for work in dropped:
            work.future.cancel()

    def _do_most_urgent(self) -> None:
        with self._lock:
            *_, run, future = heapq.heappop(self._waiting)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(run())
        except BaseException as error:
            future.set_exception(error)
            # The error's traceback holds this frame, and the future the error: a cycle that would keep the pictures.
            del run, future
