"""Answers an adaptive request that the engine does not answer in time: with its last frame, moved as the picture moves.

Whoever asks an engine holds both frames and needs no device for this; it takes a millisecond or two, for which the end
of the request's time is kept. How much that must be is learnt. Knows neither engine nor transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from service.core.errors import DeadlineExceeded
from service.core.interfaces import Engine
from service.core.lateness import Lateness
from service.core.panning import STILL, pan, panned
from service.core.size_seconds import SizeSeconds
from service.core.substitute import PANNED, REPEATED, Substitute
from service.core.timings import Timings
from service.core.types import BLOCKS, Method, PredictRequest, PredictResult, Step
from service.telemetry.metrics import Metrics

#: Seconds kept for the answer's way out.
MARGIN_S = 0.001
#: Seconds more that are kept with the time for a pan: to allow for all but one in a thousand uses up what 99.9 % leave.
SPARE_S = 0.001
#: Seconds of finding a pan, and of a pixel, before any was measured.
FIRST_S, FIRST_PIXEL_S = 0.001, 1e-8
#: Seconds at most that are learnt: of making an answer, and of being late with it.
MOST_MAKING_S, MOST_LATE_S = 0.1, 0.02
#: Part of a request's time that may be kept for finding a pan; where it has less, the engine gets all but the margin.
MOST_PART = 0.25
#: Seconds in which no engine answers: it is not asked then.
SHORTEST_S = 0.0005
#: Two frames of more bytes are moved in a thread.
LARGE = 2**21


class NeverLateEngine:
    """An engine that answers adaptive requests in time, whatever becomes of them in the one behind it."""

    def __init__(self, engine: Engine, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._metrics, self._clock = engine, metrics, clock
        self._last_way = LastWay(clock)
        self.readiness, self.model, self.debug = engine.readiness, engine.model, getattr(engine, "debug", None)

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Predict as the engine does; what it cannot answer by an adaptive request's deadline is answered here."""
        start, deadline = self._clock(), request.deadline
        if deadline is None or start >= deadline or not request.options.allows_live:
            return await self._engine.predict(request)
        latest = deadline - self._last_way.reserve(request, deadline - start)
        if latest - start > SHORTEST_S:
            with contextlib.suppress(DeadlineExceeded):
                return await self._engine.predict(replace(request, deadline=latest, is_covered=True))
        due = min(self._clock(), max(start, latest))
        return await self._instead(request, due, deadline)

    async def _instead(self, request: PredictRequest, due: float, deadline: float) -> PredictResult:
        arguments = (request, request.options.version or self._engine.model().version, due, deadline)
        if request.nbytes > LARGE:
            result = await asyncio.to_thread(self._last_way.answer, *arguments)
        else:
            result = self._last_way.answer(*arguments)
        if (kind := Substitute.of(result)) is not None:
            self._metrics.routes.shortened(kind)
        return result


class LastWay:
    """The last way to answer, and how long before its deadline it must be taken. For any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # around what is learnt: large frames are moved in threads
        self._making = SizeSeconds(FIRST_S, FIRST_PIXEL_S, MOST_MAKING_S)
        self._late = Lateness(MOST_LATE_S)  #: of answers, after they were due and the time that one takes
        self._overrun = Lateness(MOST_LATE_S)  #: of answers, from when they were begun

    def reserve(self, request: PredictRequest, seconds: float) -> float:
        """Return how much of a request's `seconds` must be left when its answer is begun."""
        # By one in a thousand: what is kept for nothing costs quality, what is not kept breaks the promise.
        with self._lock:
            least, making = MARGIN_S + self._late.allowance(), self._making.expect(*_size(request))
        return least + making + SPARE_S if making <= MOST_PART * seconds else least

    def answer(self, request: PredictRequest, version: str, due: float, deadline: float) -> PredictResult:
        """Make the answer; where even that would be late, the frame as it is. Times on the clock, seconds."""
        start, current, times = self._clock(), request.current, request.options.times
        with self._lock:
            making, overrun = self._making.expect(*_size(request)), self._overrun.allowance()
        has_time = deadline - start > MARGIN_S + making + overrun
        shift = pan(request.previous, current) if has_time else STILL
        share = REPEATED if shift == STILL else PANNED
        step = Step(current, (False,) * BLOCKS, 0, method=Method.FLOW, shares={share: 1.0})
        moments = times or tuple(float(number) for number in range(1, request.options.steps + 1))
        steps = tuple(replace(step, frame=panned(current, shift, t), t=t if times else None) for t in moments)
        end = self._clock()
        with self._lock:
            self._late.learn(end - due - (making if has_time else 0.0), end)
            if has_time:
                self._overrun.learn(end - start - making, end)
                self._making.learn(*_size(request), end - start)
        return PredictResult(request.id, steps, version, Timings(motion=end - start), shortened=True)


def _size(request: PredictRequest) -> tuple[int, int]:
    """Return the rows and columns of all frames that are wanted: several take longer than one."""
    return request.options.frames * request.current.height, request.current.width
