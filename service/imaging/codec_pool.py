"""Decodes and encodes off the event loop, in a few threads, what is due first before the rest, and times it.

Knows nothing of transports; what is accepted is decided in `service.imaging.codec`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from service.core.size_seconds import SizeSeconds
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import FrameLimits, ImageFormat
from service.short_turns import take_short_turns
from service.telemetry.metrics import Metrics, Stage

T = TypeVar("T")

#: Raw frames up to this many bytes are checked on the event loop: a thread's hand-over would cost more than the check.
INLINE_BYTES = 64 * 1024
#: Frames up to this many bytes are copied there into an answer of raw pixels, for the same reason.
INLINE_COPY = 2**20
#: Seconds of encoding a frame, and one of its pixels, before any was measured; the same of mere copies.
FIRST_S, FIRST_PIXEL_S = 0.0005, 1e-8
FIRST_COPY_S, FIRST_COPIED_PIXEL_S = 0.0001, 1e-9
#: Seconds that one measurement counts as at most.
MOST_S = 0.2
#: Seconds after which work is due that has no deadline: it waits behind what is urgent, and not for ever.
NO_DEADLINE_S = 30.0


class Codecs:
    """Image bytes <-> frames for every edge. `threads` 0: one per core. Pillow and zlib let go of the GIL.

    Deadlines are on `clock`, seconds; None: there is none.
    """

    def __init__(
        self, limits: FrameLimits, threads: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._metrics, self._clock = metrics, clock
        self._encoding = {
            format: SizeSeconds(FIRST_COPY_S, FIRST_COPIED_PIXEL_S, MOST_S)
            if format in (ImageFormat.RAW, ImageFormat.PPM)
            else SizeSeconds(FIRST_S, FIRST_PIXEL_S, MOST_S)
            for format in ImageFormat
        }
        self._pool = DeadlinePool(threads or len(os.sched_getaffinity(0)))

    def decode(
        self,
        data: bytes | memoryview,
        field: str,
        reserve: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[Frame]:
        """Decode as `codec.decode`, from now on; `reserve` is called in a thread."""
        return self._run(Stage.DECODE, lambda: codec.decode(data, self.limits, field, reserve), deadline)

    async def raw(
        self,
        data: bytes | memoryview,
        height: int,
        width: int,
        field: str,
        stride: int | None = None,
        deadline: float | None = None,
    ) -> Frame:
        """Take raw pixels as `codec.from_raw`."""

        def work() -> Frame:
            return codec.from_raw(data, height, width, self.limits, field, stride)

        # Without gaps nothing is copied, so nothing is worth a thread.
        if stride in (None, 3 * width) or len(data) <= INLINE_BYTES:
            return work()
        return await self._run(Stage.DECODE, work, deadline)

    async def encode(
        self, frame: Frame, format: ImageFormat, quality: int | None = None, deadline: float | None = None
    ) -> bytes:
        """Encode as `codec.encode`."""
        if format is ImageFormat.RAW and frame.pixels.nbytes <= INLINE_COPY:
            return codec.encode(frame, format, quality)
        return await self._run(Stage.ENCODE, lambda: codec.encode(frame, format, quality), deadline)

    def learn_encoding(self, frame: Frame, format: ImageFormat, seconds: float) -> None:
        """Note how long each frame of an answer took, on average, frames of this one's size."""
        self._encoding[format].learn(frame.height, frame.width, seconds)

    def expect_encoding(self, frame: Frame, format: ImageFormat) -> float:
        """Return the seconds to reckon with for each frame, of this one's size, of an answer: as it was of late."""
        return self._encoding[format].expect(frame.height, frame.width)

    def _run(self, stage: Stage, work: Callable[[], T], deadline: float | None) -> asyncio.Future[T]:
        """Run `work` in a thread, the earliest deadline first, and time it. RuntimeError once closed.

        Cancelling the future drops work that has not begun; only work that succeeded is timed, waiting included.
        """
        began = time.perf_counter()

        def timed() -> T:
            result = work()
            self._metrics.stage_took(stage, time.perf_counter() - began)
            return result

        return self._pool.submit(timed, self._clock() + NO_DEADLINE_S if deadline is None else deadline)

    def close(self) -> None:
        """Wait for work that has begun; drop the rest."""
        self._pool.close()


class _Work(NamedTuple):
    """What waits for a thread; sorts by its deadline, then by when it came."""

    deadline: float
    number: int
    run: Callable[[], Any]
    future: asyncio.Future[Any]


class DeadlinePool:
    """At most `threads` threads, each started by the work that first wants it. Submit from one loop.

    A standard pool is first come first served: a request with milliseconds would wait behind one with half a minute.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the pool is closed")
            heapq.heappush(self._heap, _Work(deadline, next(self._numbers), run, future))
        self._wakeups.put(None)
        if len(self._threads) < self._most:
            # owned: `close` joins it
            thread = threading.Thread(target=self._serve, name=f"codec_{len(self._threads)}", daemon=True)
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
