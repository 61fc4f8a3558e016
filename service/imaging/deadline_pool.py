"""Runs blocking work in a few threads, what is due first before the rest.

Knows nothing of images. A standard pool is first come first served: a request with milliseconds would wait behind one
with half a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from service.short_turns import take_short_turns

T = TypeVar("T")


class _Work(NamedTuple):
    """What waits for a thread; sorts by its deadline, then by when it came."""

    deadline: float
    number: int
    run: Callable[[], Any]
    future: asyncio.Future[Any]


class DeadlinePool:
    """At most `threads` threads, called `name`, each started by the work that first wants it. Submit from one loop."""

    def __init__(self, threads: int, name: str) -> None:
        self._most, self._name = threads, name
        self._threads: list[threading.Thread] = []
        self._heap: list[_Work] = []
        self._lock = threading.Lock()  # around the heap
        #: An element for each work that was submitted, and one for each thread once closed. No Condition: that is
        #: Python code, some fourteen calls a wait; this is C.
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._numbers = itertools.count()
        self._is_closed = False

    def submit(self, run: Callable[[], T], deadline: float) -> asyncio.Future[T]:
        """Have `run` called in a thread; the future has what it returns or raises. RuntimeError once closed.

        `deadline` in seconds of any clock, the same for all. Cancelling the future drops work that has not begun.
        """
        if self._is_closed:
            raise RuntimeError("the pool is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            heapq.heappush(self._heap, _Work(deadline, next(self._numbers), run, future))
        self._wakeups.put(None)
        if len(self._threads) < self._most:
            # owned: `close` joins it
            thread = threading.Thread(target=self._serve, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Wait for work that has begun; cancel the rest."""
        with self._lock:
            self._is_closed = True
            dropped, self._heap = self._heap, []
        for work in dropped:
            _tell(work.future, work.future.cancel)
        for _ in self._threads:
            self._wakeups.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        take_short_turns()  # else a picture waits for a device's thread to have used up its turn
        while (work := self._next()) is not None:
            if not work.future.cancelled():
                _run(work)
            del work  # while it waits for the next, the thread holds nothing of this one

    def _next(self) -> _Work | None:
        """Wait for work and return the most urgent; None once closed."""
        while True:
            self._wakeups.get()
            with self._lock:
                if self._heap:
                    return heapq.heappop(self._heap)
                if self._is_closed:
                    return None


def _run(work: _Work) -> None:
    try:
        result = work.run()
    except BaseException as error:
        _tell(work.future, _fail, work.future, error)
        # The error's traceback holds this frame, and the future the error: a cycle that would keep the frames.
        del work
    else:
        _tell(work.future, _succeed, work.future, result)


def _tell(future: asyncio.Future[Any], call: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(call, *arguments)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
