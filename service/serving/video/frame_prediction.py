"""Predicts a clip's frames on an engine: one request for each, behind live ones, repeated while the queue is full."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable

from service.core.errors import ClientLimit, QueueFull
from service.core.interfaces import Engine
from service.core.types import Frame, Options, PredictResult, Priority
from service.serving.prediction import Caller, build_request, with_seed
from service.serving.video.retimed_frames import PredictMoments
from service.settings import Settings

#: Seconds after which a full queue is asked again, where it does not say.
RETRY_AFTER = 0.5
#: previous, current, steps -> the answer.
PredictSteps = Callable[[Frame, Frame, int], Awaitable[PredictResult]]


@dataclasses.dataclass(frozen=True, slots=True)
class ClipPredictors:
    """What predicts a clip's frames, by steps or by moments."""

    steps: PredictSteps
    moments: PredictMoments

    @classmethod
    def of(cls, engine: Engine, options: Options, settings: Settings, client: str = "") -> ClipPredictors:
        """Return predictors that send each pair to `engine` as background work of `client`."""
        of_engine = (engine, options, settings, client)
        return cls(frame_predictor(*of_engine), moment_predictor(*of_engine))


def frame_predictor(engine: Engine, options: Options, settings: Settings, client: str = "") -> PredictSteps:
    """Return a function that asks the engine frame by frame, behind live requests. `options` without its steps."""
    ask = _asking(engine, settings, client)
    options = with_seed(options)  # once: a clip's frames are drawn with one seed

    async def predict(previous: Frame, current: Frame, steps: int) -> PredictResult:
        return await ask(previous, current, dataclasses.replace(options, steps=steps))

    return predict


def moment_predictor(engine: Engine, options: Options, settings: Settings, client: str = "") -> PredictMoments:
    """Return a function that asks the engine for the frames of several moments, behind live requests."""
    ask = _asking(engine, settings, client)
    options = with_seed(options)

    async def predict(previous: Frame, current: Frame, times: tuple[float, ...]) -> PredictResult:
        return await ask(previous, current, dataclasses.replace(options, steps=1, times=times))

    return predict


def _asking(
    engine: Engine, settings: Settings, client: str
) -> Callable[[Frame, Frame, Options], Awaitable[PredictResult]]:
    numbers = itertools.count()

    async def ask(previous: Frame, current: Frame, options: Options) -> PredictResult:
        deadline = time.monotonic() + settings.max_deadline_ms / 1000
        caller = Caller(f"video-{next(numbers)}", client, deadline, priority=Priority.BACKGROUND)
        request = build_request(caller, previous, current, options)
        while True:
            try:
                return await engine.predict(request)
            except (QueueFull, ClientLimit) as error:
                # Behind live requests, a video waits its turn; it is late only when its own time is over.
                wait = error.retry_after or RETRY_AFTER
                if time.monotonic() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)

    return ask
