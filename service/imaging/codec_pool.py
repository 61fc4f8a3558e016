"""Decodes and encodes off the event loop, in a few threads, and times it.

Knows nothing of transports; what is accepted is decided in `service.imaging.codec`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import FrameLimits, ImageFormat
from service.telemetry.metrics import Metrics, Stage

T = TypeVar("T")

#: Raw frames up to this many bytes are checked on the event loop: a thread's hand-over would cost more than the check.
INLINE_BYTES = 64 * 1024
#: Frames up to this many bytes are copied there into an answer of raw pixels, for the same reason.
INLINE_COPY = 2**20


@dataclass(slots=True, eq=False)
class _Task:
    """Work for a thread, and the future of the event loop that waits for it."""

    stage: Stage
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    began: float


class Codecs:
    """Image bytes <-> frames for every edge. `threads` 0: one per core. Pillow and zlib let go of the GIL.

    The threads are our own: `ThreadPoolExecutor`, behind `run_in_executor`, is some forty calls of Python an image.
    """

    def __init__(self, limits: FrameLimits, threads: int, metrics: Metrics) -> None:
        self.limits = limits
        self._metrics = metrics
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._unsettled = 0  #: tasks that wait, run, or whose future is yet to be told
        self._is_closed = False
        self._most_threads = threads or len(os.sched_getaffinity(0))
        self._threads: list[threading.Thread] = []

    def decode(
        self, data: bytes | memoryview, field: str, reserve: Callable[[int], None] | None = None
    ) -> asyncio.Future[Frame]:
        """Decode as `codec.decode`, from now on; `reserve` is called in a thread."""
        return self._run(Stage.DECODE, lambda: codec.decode(data, self.limits, field, reserve))

    async def raw(
        self, data: bytes | memoryview, height: int, width: int, field: str, stride: int | None = None
    ) -> Frame:
        """Take raw pixels as `codec.from_raw`."""

        def work() -> Frame:
            return codec.from_raw(data, height, width, self.limits, field, stride)

        # Without gaps nothing is copied, so nothing is worth a thread.
        if stride in (None, 3 * width) or len(data) <= INLINE_BYTES:
            return work()
        return await self._run(Stage.DECODE, work)

    async def encode(self, frame: Frame, format: ImageFormat, quality: int | None = None) -> bytes:
        """Encode as `codec.encode`."""
        if format is ImageFormat.RAW and frame.pixels.nbytes <= INLINE_COPY:
            return codec.encode(frame, format, quality)
        return await self._run(Stage.ENCODE, lambda: codec.encode(frame, format, quality))

    def _run(self, stage: Stage, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in a thread and time it. RuntimeError once closed.

        Cancelling the future drops work that has not begun; only work that succeeded is timed, waiting included.
        """
        if self._is_closed:
            raise RuntimeError("the codecs are closed")
        self._unsettled += 1
        if len(self._threads) < min(self._unsettled, self._most_threads):
            self._start_thread()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.put(_Task(stage, work, future, time.perf_counter()))
        return future

    def _start_thread(self) -> None:
        # owned: `close` ends it; a daemon, so that whoever forgets that is not kept
        thread = threading.Thread(target=self._serve, name=f"codec_{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._is_closed or task.future.cancelled():
                self._report(task, None, asyncio.CancelledError())
            else:
                self._do(task)
            del task  # nothing is kept while the thread waits

    def _do(self, task: _Task) -> None:
        try:
            result = task.work()
        except BaseException as error:
            self._report(task, None, error)
        else:
            self._metrics.stage_took(task.stage, time.perf_counter() - task.began)
            self._report(task, result, None)
        finally:
            del task  # the traceback of an error holds this frame: a cycle that would keep what was to be decoded

    def _report(self, task: _Task, result: object, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            task.future.get_loop().call_soon_threadsafe(self._settle, task.future, result, error)

    def _settle(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        """Give a future its outcome, on its loop; nothing where nobody waits any more."""
        self._unsettled -= 1
        if future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def close(self) -> None:
        """Wait for work that has begun; drop the rest."""
        self._is_closed = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
