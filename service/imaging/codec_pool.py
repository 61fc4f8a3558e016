"""Decodes and encodes images in threads, what is due first before the rest, and times it.

Knows nothing of transports; what is accepted is decided in `service.imaging.codec`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from service.core.size_seconds import SizeSeconds
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import FrameLimits, ImageFormat
from service.imaging.future_group import FutureGroup
from service.imaging.waiting_work import WaitingWork
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
        # In short turns: else a picture waits for a thread of the device to have used up its own.
        count = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="codec", initializer=take_short_turns)
        self._waiting = WaitingWork()

    def decode(
        self,
        data: bytes | memoryview,
        field: str,
        reserve: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[Frame]:
        """Decode as `codec.decode`, from now on; `reserve` is called in a thread."""
        return asyncio.wrap_future(self._decode(data, field, reserve, deadline))

    def decode_together(
        self,
        files: Sequence[tuple[bytes | memoryview, str]],
        reserve: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> FutureGroup[Frame]:
        """Decode several images, each with its field, as `decode`."""
        return FutureGroup([self._decode(data, field, reserve, deadline) for data, field in files])

    async def raw(
        self, data: bytes | memoryview, height: int, width: int, field: str, stride: int | None = None
    ) -> Frame:
        """Take raw pixels as `codec.from_raw`."""
        # Without gaps nothing is copied, so nothing is worth a thread.
        if stride in (None, 3 * width) or len(data) <= INLINE_BYTES:
            return codec.from_raw(data, height, width, self.limits, field, stride)
        work = partial(codec.from_raw, data, height, width, self.limits, field, stride)
        return await asyncio.wrap_future(self._submit(Stage.DECODE, work, None))

    async def encode(
        self, frame: Frame, format: ImageFormat, quality: int | None = None, deadline: float | None = None
    ) -> bytes:
        """Encode as `codec.encode`."""
        (file,) = await self.encode_together((frame,), format, quality, deadline)
        return file

    async def encode_together(
        self,
        frames: Sequence[Frame],
        format: ImageFormat,
        quality: int | None = None,
        deadline: float | None = None,
    ) -> tuple[bytes, ...]:
        """Encode several frames of one size as `codec.encode`."""
        if not frames or self.needs_no_thread(frames[0], format):
            return tuple([codec.encode(frame, format, quality) for frame in frames])
        return tuple(await self.begin_encoding(frames, format, quality, deadline).results())

    @staticmethod
    def needs_no_thread(frame: Frame, format: ImageFormat) -> bool:
        """Tell whether encoding `frame` is a copy that costs less than a thread's hand-over, or none at all."""
        return format is ImageFormat.RAW and (frame.pixels.nbytes <= INLINE_COPY or codec.own_bytes(frame) is not None)

    def begin_encoding(
        self,
        frames: Sequence[Frame],
        format: ImageFormat,
        quality: int | None = None,
        deadline: float | None = None,
    ) -> FutureGroup[bytes]:
        """Begin to encode several frames in threads, from whatever thread. RuntimeError once closed."""
        works = [partial(codec.encode, frame, format, quality) for frame in frames]
        return FutureGroup([self._submit(Stage.ENCODE, work, deadline) for work in works])

    def learn_encoding(self, frame: Frame, format: ImageFormat, seconds: float) -> None:
        """Note how long each frame of an answer took, on average, frames of this one's size."""
        self._encoding[format].learn(frame.height, frame.width, seconds)

    def expect_encoding(self, frame: Frame, format: ImageFormat) -> float:
        """Return the seconds to reckon with for each frame, of this one's size, of an answer: as it was of late."""
        return self._encoding[format].expect(frame.height, frame.width)

    def _decode(
        self, data: bytes | memoryview, field: str, reserve: Callable[[int], None] | None, deadline: float | None
    ) -> Future[Frame]:
        return self._submit(Stage.DECODE, lambda: codec.decode(data, self.limits, field, reserve), deadline)

    def _submit(self, stage: Stage, work: Callable[[], T], deadline: float | None) -> Future[T]:
        """Run `work` in a thread, the earliest deadline first, and time it. RuntimeError once closed.

        Cancelling the future drops work that has not begun; only work that succeeded is timed, waiting included.
        """
        began = time.perf_counter()

        def timed() -> T:
            result = work()
            self._metrics.stage_took(stage, time.perf_counter() - began)
            return result

        future = self._waiting.add(timed, self._clock() + NO_DEADLINE_S if deadline is None else deadline)
        self._pool.submit(self._do_most_urgent)
        return future

    def _do_most_urgent(self) -> None:
        *_, run, future = self._waiting.take()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(run())
        except BaseException as error:
            future.set_exception(error)
            # The error's traceback holds this frame, and the future the error: a cycle that would keep the pictures.
            del run, future

    def close(self) -> None:
        """Wait for work that has begun; drop the rest."""
        self._pool.shutdown(cancel_futures=True)
        self._waiting.cancel()
