"""Several calls that run in an executor's threads, awaited as one: the first that fails drops those not yet begun.

Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class FutureGroup(Generic[T]):
    """Works that an executor has been given, at least one; the first that fails drops those that have not begun."""

    def __init__(self, futures: Sequence[Future[T]]) -> None:
        """Take the works' futures, on any thread; they are this object's from now on."""
        self._futures = tuple(futures)
        self._lock = threading.Lock()  # around what works that end in several threads change
        self._unfinished = len(self._futures)
        self._error: BaseException | None = None
        self._all_over: Future[None] = Future()
        self._all_over.set_running_or_notify_cancel()  # whoever stops waiting for it does not cancel it
        for future in self._futures:
            future.add_done_callback(self._note_end)

    async def results(self) -> list[T]:
        """Return each work's result, once all have ended. To be awaited once.

        Raises the first error, and CancelledError where works were dropped. Cancelling drops those that have not begun.
        """
        try:
            if not self._all_over.done():
                await asyncio.wrap_future(self._all_over)
        except asyncio.CancelledError:
            self.cancel()
            raise
        # Each future holds this object as its callback's: together they would live until a collection.
        futures, self._futures = self._futures, ()
        error, self._error = self._error, None
        if error is not None:
            # Its traceback will hold this frame: a cycle, if the frame or what it holds had the error.
            del futures
            try:
                raise error
            finally:
                del error
        if any(future.cancelled() for future in futures):
            raise asyncio.CancelledError
        return [future.result() for future in futures]

    def cancel(self) -> None:
        """Drop the works that have not begun, and what the others give. Nobody may await the results then."""
        futures, self._futures = self._futures, ()
        for future in futures:
            future.cancel()

    def _note_end(self, future: Future[T]) -> None:
        error = None if future.cancelled() else future.exception()
        with self._lock:
            self._unfinished -= 1
            is_last = self._unfinished == 0
            is_first_error = error is not None and self._error is None
            if is_first_error:
                self._error = error
        if is_first_error:
            for other in self._futures:
                other.cancel()
        if is_last:
            self._all_over.set_result(None)
