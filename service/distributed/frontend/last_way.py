"""Answers an adaptive call that no worker answers in time: with its last frame, moved on as the picture moves.

A front end holds both frames and has no device; what it can do with them takes a millisecond or two, for which the end
of the call's time is kept. How much that must be is learnt.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace

from service.core.panning import STILL, pan, panned
from service.core.substitute import PANNED, REPEATED
from service.core.timings import Timings
from service.core.types import BLOCKS, Frame, Method, PredictRequest, PredictResult, Step

#: Seconds kept for the answer's way out.
MARGIN_S = 0.001
#: Seconds of finding a pan, and of moving a pixel, before any was measured.
FIRST_S, FIRST_PIXEL_S = 0.002, 2e-9
#: Seconds at most that are learnt: of making an answer, and of being begun late.
MOST_MAKING_S, MOST_LATE_S = 0.1, 0.02
#: Measurements, and sizes of frames, that are remembered.
REMEMBERED, SIZES = 16, 32


class LastWay:
    """The last way to answer, and how long before its deadline it must be taken. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._making: OrderedDict[tuple[int, int], deque[float]] = OrderedDict()  #: seconds, by height and width
        self._late: deque[float] = deque(maxlen=REMEMBERED)  #: seconds after the planned time

    def reserve(self, frame: Frame) -> float:
        """Return the seconds that must be left of a call's time when its answer is begun."""
        return MARGIN_S + max(self._late, default=0.0) + self._seconds(frame)

    def answer(self, request: PredictRequest, version: str, planned: float, deadline: float) -> PredictResult:
        """Make the answer; where even that would be late, the frame as it is. Times on the clock, seconds."""
        start, current, times = self._clock(), request.current, request.options.times
        self._late.append(min(MOST_LATE_S, max(0.0, start - planned)))
        has_time = deadline - start > MARGIN_S + self._seconds(current)
        shift = pan(request.previous, current) if has_time else STILL
        share = REPEATED if shift == STILL else PANNED
        step = Step(current, (False,) * BLOCKS, 0, method=Method.FLOW, shares={share: 1.0})
        moments = times or tuple(float(number) for number in range(1, request.options.steps + 1))
        steps = tuple(replace(step, frame=panned(current, shift, t), t=t if times else None) for t in moments)
        seconds = self._clock() - start
        if has_time:
            self._learn(current, seconds)
        return PredictResult(request.id, steps, version, Timings(motion=seconds), shortened=True)

    def _seconds(self, frame: Frame) -> float:
        measured = self._making.get((frame.height, frame.width))
        return max(measured) if measured else FIRST_S + FIRST_PIXEL_S * frame.height * frame.width

    def _learn(self, frame: Frame, seconds: float) -> None:
        size = frame.height, frame.width
        measured = self._making.setdefault(size, deque(maxlen=REMEMBERED))
        measured.append(min(MOST_MAKING_S, seconds))
        self._making.move_to_end(size)
        while len(self._making) > SIZES:
            self._making.popitem(last=False)
