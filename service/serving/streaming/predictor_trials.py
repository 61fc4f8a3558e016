"""Lets other predictors try a stream's pairs beside it, as background work, and tells which is to predict from now on.

What is chosen is decided in `predictor_choice`; here are the engine, one trial at a time, and who it is counted for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from itertools import pairwise
from statistics import median

from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import ServiceError
from service.core.types import Frame, Options, PredictRequest, PredictResult, Priority, Quality
from service.serving.streaming.messages import StreamRequest
from service.serving.streaming.predictor_choice import PairedScore, PredictorChoice, StreamPredictor, available
from service.serving.streaming.registry import StreamSlot
from service.serving.streaming.session import DropPolicy, PendingPrediction, Tag

log = logging.getLogger("service.stream")

#: Arrivals by whose distance it is known how fast frames come.
PACED = 9


class PredictorTrials:
    """The trials of one stream. `client`: whom they are counted for, "" for nobody."""

    def __init__(self, state: AppState, place: StreamSlot, request: StreamRequest, client: str) -> None:
        model, self._options = state.engine.model(), request.options
        self._state, self._place, self._policy, self._client = state, place, request.plan.policy, client
        self._default = model.default_method
        is_adaptive = request.options.quality is Quality.ADAPTIVE
        self._choice = PredictorChoice(available(model.methods, self._default, is_adaptive=is_adaptive))
        self._scores = PairedScore()
        self._arrivals: deque[float] = deque(maxlen=PACED)
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> StreamPredictor:
        """Return what is to predict the next pair."""
        return self._choice.current

    def options(self, predictor: StreamPredictor, times: tuple[float, ...]) -> Options:
        """Return the stream's options for a prediction by `predictor`, of these `times`."""
        return replace(predictor.options(self._options, self._default), times=times)

    def arrived(self, tag: Tag, frame: Frame, *, begins_pair: bool) -> None:
        """Take a frame as the truth of what was tried for its time."""
        self._arrivals.append(tag.arrived)
        comparison = self._scores.arrived(tag.sequence, tag.time_us, frame, begins_pair=begins_pair)
        if comparison is not None:
            self._compared(*comparison)

    def predicted(
        self, work: PendingPrediction, request: PredictRequest, result: PredictResult, predictor: StreamPredictor
    ) -> None:
        """Begin a trial of the pair that `predictor` answered with `result`, if one is due and none is under way."""
        if result.shortened or result.is_cut or predictor is not self.current:
            return
        if self._task is not None and not self._task.done():
            return
        if (other := self._choice.trial()) is not None:
            # owned: by the stream, which closes this; _try answers for its errors
            self._task = asyncio.create_task(self._try(work, request, result, other))

    async def _try(
        self, work: PendingPrediction, request: PredictRequest, ours: PredictResult, other: StreamPredictor
    ) -> None:
        deadline = self._state.clock() + self._state.settings.default_deadline_ms / 1000
        trial = replace(
            request,
            id=f"{request.id}.trial",
            options=self.options(other, request.options.times),
            deadline=deadline,
            priority=Priority.BACKGROUND,
            on_result=None,
        )
        nbytes = request.nbytes + request.current.pixels.nbytes * request.options.frames
        try:
            self._place.reserve_answer(nbytes, self._state.settings.max_stream_bytes)
        except ServiceError:
            return
        try:
            await self._state.access.admit_next(self._client, Scope.STREAMS)
            theirs = await self._state.engine.predict(trial)
            if not theirs.shortened and not theirs.is_cut and self._keeps_up(ours, theirs):
                moment = (work.tag.sequence, work.tag.time_us, work.pace_us)
                for comparison in self._scores.predicted(moment, work.current, ours, theirs, other):
                    self._compared(*comparison)
        except ServiceError as error:
            log.debug("a predictor was not tried: %s", error, extra={"request_id": request.id})
        except Exception:
            log.exception("a predictor could not be tried", extra={"request_id": request.id})
        finally:
            self._place.release_answer(nbytes)

    def _keeps_up(self, ours: PredictResult, theirs: PredictResult) -> bool:
        """Tell whether it takes no longer than frames are apart, or than what predicts now; all frames can wait."""
        if self._policy is DropPolicy.ALL or len(self._arrivals) < 2:
            return True
        apart = median(later - earlier for earlier, later in pairwise(self._arrivals))
        return theirs.timings.device <= max(ours.timings.device, apart)

    def _compared(self, other: StreamPredictor, difference_db: float) -> None:
        if self._choice.compared(other, difference_db):
            self._state.metrics.stream_quality.chosen(other.value)

    async def close(self) -> None:
        """Withdraw the trial under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
