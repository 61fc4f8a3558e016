"""Begins to encode an answer on the thread that has it, before the event loop hears of it.

Whether the answer is still wanted is decided in `service.serving.prediction`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from service.core.types import PredictResult
from service.imaging.codec import ImageFormat
from service.imaging.codec_pool import Codecs
from service.imaging.future_group import FutureGroup


class BegunEncoding(NamedTuple):
    """The encoding of all steps of `result`, since `time` on the service's clock, seconds."""

    result: PredictResult
    time: float
    work: FutureGroup[bytes]


class EagerEncoding:
    """One answer's encoding, begun on the thread that has it: whoever waits is woken with the bytes.

    A context: its end drops the work.
    """

    def __init__(
        self,
        codecs: Codecs,
        clock: Callable[[], float],
        format: ImageFormat,
        quality: int | None,
        deadline: float | None = None,
    ) -> None:
        self._codecs, self._clock, self._format, self._quality = codecs, clock, format, quality
        self._deadline = deadline
        self._begun: BegunEncoding | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was begun and is not awaited any more; begin nothing from now on."""
        self._is_over = True
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.work.cancel()

    def begin(self, result: PredictResult) -> None:
        """Begin to encode an answer, in the codecs' threads. For any thread; raises nothing, and returns at once."""
        frames = [step.frame for step in result.steps]
        if self._is_over or self._begun is not None or not frames:
            return
        if self._codecs.needs_no_thread(frames[0], self._format):
            return
        start = self._clock()
        with contextlib.suppress(RuntimeError):  # the codecs are closed: whoever awaits the answer is told
            work = self._codecs.begin_encoding(frames, self._format, self._quality, self._deadline)
            self._begun = BegunEncoding(result, start, work)

    def begun(self, result: PredictResult) -> BegunEncoding | None:
        """Return the encoding of just this answer, if it was begun: another may have been given in its place."""
        return self._begun if self._begun is not None and self._begun.result is result else None
