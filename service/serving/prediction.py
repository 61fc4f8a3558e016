"""The one path from two pictures to an encoded answer: decode, admit, predict, encode, the deadline checked in between.

Every edge, stream, clip, job and the command line parse what was sent to them, come here, and format what they get.
Knows no transport; the engine is handed in.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from service.app_state import AppState
from service.core.errors import DeadlineExceeded, InvalidFrame, Unavailable
from service.core.interfaces import Engine
from service.core.types import (
    MAX_SEED,
    Frame,
    Options,
    PredictRequest,
    PredictResult,
    Priority,
    Quality,
    RoutePolicy,
    route_text,
)
from service.imaging.codec import ImageFormat
from service.imaging.codec_pool import Codecs
from service.imaging.eager_encoding import EagerEncoding
from service.serving.answer_size import answer_reserve
from service.serving.byte_budget import ByteHolding
from service.telemetry.request_context import Notes, RequestContext, sharer

T = TypeVar("T")

#: Part of the time left to an adaptive request that may be kept for encoding its answer.
ENCODING_PART = 0.5

#: Name and seconds of each stage of a prediction, in order.
Stages = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A frame as it travels: an image file, or RGB rows of a `shape` (height, width), `stride` bytes apart."""

    data: bytes | memoryview
    shape: tuple[int, int] | None = None
    stride: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PicturePair:
    """Both pictures of a request, and the `fields` that errors name them by."""

    previous: Picture
    current: Picture
    fields: tuple[str, str] = ("previous", "current")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a pair is predicted. `deadline` is on the service's clock, seconds; None: the default."""

    request_id: str
    client: str = ""
    deadline: float | None = None
    traceparent: str | None = None
    holding: ByteHolding | None = None  #: what its pixels and its answer are counted in
    priority: Priority = Priority.LIVE

    @classmethod
    def of(cls, context: RequestContext, deadline: float | None, holding: ByteHolding) -> Caller:
        """Name whom a request's predictions are for."""
        return cls(context.request_id, sharer(context), deadline, context.trace.traceparent, holding)


class PairTimes(NamedTuple):
    """When a pair's current frame is shown, and how long after its previous, in microseconds; None: not known."""

    shown_us: int | None = None
    interval_us: int | None = None

    def of_steps(self, result: PredictResult) -> tuple[int | None, ...]:
        """Return when each predicted frame is to be shown, in microseconds; None for each where that is not known."""
        if self.shown_us is None or self.interval_us is None:
            return (None,) * len(result.steps)
        # Whole moments stay exact: a client's times may need more digits than a float has.
        interval = self.interval_us
        return tuple(self.shown_us + (interval * int(t) if t == int(t) else round(interval * t)) for t in result.times)


UNTIMED = PairTimes()


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrediction:
    """A prediction ready to be sent: `pictures[k]` and `times_us[k]` belong to `result.steps[k]`."""

    result: PredictResult
    format: ImageFormat
    pictures: tuple[bytes, ...]
    times_us: tuple[int | None, ...]
    stages: Stages
    spare: float | None = None  #: seconds that were left of the deadline
    predictor: str = ""  #: of a stream that lets the best be chosen: what was

    def log_fields(self) -> Notes:
        """Return the fields that a log line and a span show."""
        result, frame = self.result, self.result.steps[0].frame
        fields: Notes = {
            "method": result.method,
            "route": routes_text(result),
            "flops": result.flops,
            "batch_size": result.batch_size,
            "width": frame.width,
            "height": frame.height,
        }
        for name, seconds in self.stages:
            fields[f"{name}_ms"] = round(seconds * 1000, 3)
        if self.spare is not None:
            fields["spare_ms"] = round(self.spare * 1000, 3)
        return fields

    def report(self, context: RequestContext) -> None:
        """Note in a request's context how its answer came about."""
        context.stages = self.stages
        context.notes.update(self.log_fields())


async def predict(
    state: AppState,
    pair: PicturePair,
    options: Options,
    format: ImageFormat,
    quality: int | None,
    caller: Caller,
    times: PairTimes = UNTIMED,
) -> EncodedPrediction:
    """Predict the frames that follow two pictures, each encoded as `format`.

    Raises a ServiceError: of a picture, naming its field; QueueFull without room for pixels or answer;
    DeadlineExceeded as soon as the deadline has passed, and never an answer after it.
    """
    start = check_deadline(state, caller.deadline, "admit", "the deadline passed before the frames were read")
    previous, current = await decode_pair(state, pair, caller.holding, caller.deadline)
    decode_seconds = state.clock() - start
    eager_encoding = EagerEncoding(state.codecs, state.clock, format, quality, caller.deadline)
    try:
        due = engine_deadline(state, caller.deadline, options, current, format)
        request = build_request(replace(caller, deadline=due), previous, current, options, eager_encoding.begin)
    except InvalidFrame as error:
        error.field = pair.fields[1]
        raise
    del pair, previous, current  # what is decoded lets go of its pictures
    admit(state, request, caller.holding)
    with eager_encoding:
        result = await state.engine.predict(request)
        del request  # the answer takes the place of its frames
        return await encode(
            state,
            result,
            format,
            quality,
            caller.deadline,
            times,
            decode_seconds=decode_seconds,
            is_adaptive=options.quality is Quality.ADAPTIVE,
            eager_encoding=eager_encoding,
        )


def check_ready(engine: Engine, admitting: str | None = "draining") -> None:
    """Raise Unavailable if the engine takes no work. Call it before reading megabytes for a refusal.

    Not raised for the reason `admitting`, if one is given. While draining, health checks are told first and work is
    still taken for a while: the engine knows until when.
    """
    readiness = engine.readiness()
    if not readiness.ready and (admitting is None or readiness.reason != admitting):
        raise Unavailable(f"not ready: {readiness.reason}", reason=readiness.reason, retry_after=1.0)


def check_deadline(state: AppState, deadline: float | None, phase: str, message: str) -> float:
    """Return the time on the service's clock, seconds. If `deadline` has passed, count it under `phase` and raise."""
    now = state.clock()
    if deadline is not None and now >= deadline:
        state.metrics.deadline_missed(phase)
        raise DeadlineExceeded(message)
    return now


async def decode(
    state: AppState, picture: Picture, field: str, holding: ByteHolding | None = None, deadline: float | None = None
) -> Frame:
    """Decode the frame in a picture; its pixels are reserved in `holding` first. A ServiceError names `field`.

    Of the files that wait, the one with the earliest `deadline`, on the service's clock, is decoded first.
    """
    if picture.shape is None:
        return await state.codecs.decode(picture.data, field, holding.grow if holding is not None else None, deadline)
    if holding is not None and isinstance(picture.data, bytes):
        holding.grow(len(picture.data))  # a copy of its own; views are of a message that is counted already
    return await state.codecs.raw(picture.data, *picture.shape, field, picture.stride)


async def decode_pair(
    state: AppState, pair: PicturePair, holding: ByteHolding | None = None, deadline: float | None = None
) -> tuple[Frame, Frame]:
    """Decode both pictures, files at once. Raises the first error, which names its field, once both are let go of."""
    first, second = pair.fields
    if pair.previous.shape is None and pair.current.shape is None:
        files = ((pair.previous.data, first), (pair.current.data, second))
        decoding = state.codecs.decode_together(files, holding.grow if holding is not None else None, deadline)
        del files  # what is decoded lets go of its pictures
        previous, current = await decoding.results()
        return previous, current
    # Raw pixels are looked at where they are, so that there is nothing to do at once.
    previous = await decode(state, pair.previous, first, holding, deadline)
    return previous, await decode(state, pair.current, second, holding, deadline)


def with_seed(options: Options) -> Options:
    """Add a seed where a route is to be drawn and the caller gave none, so that it can be reported."""
    route = options.route
    if route.policy is not RoutePolicy.SAMPLE or route.seed is not None:
        return options
    return replace(options, route=replace(route, seed=secrets.randbelow(MAX_SEED + 1)))


def build_request(
    caller: Caller,
    previous: Frame,
    current: Frame,
    options: Options,
    on_result: Callable[[PredictResult], None] | None = None,
) -> PredictRequest:
    """Build what the engine is asked, with a seed if it needs one. Raises InvalidFrame for frames of two sizes."""
    return PredictRequest(
        caller.request_id,
        previous,
        current,
        with_seed(options),
        caller.deadline,
        caller.client,
        caller.priority,
        caller.traceparent,
        on_result=on_result,
    )


def engine_deadline(
    state: AppState, deadline: float | None, options: Options, frame: Frame, format: ImageFormat
) -> float | None:
    """Return when the engine must have answered, for the answer, encoded as `format`, to be there by `deadline`.

    Earlier for adaptive requests only: these get less where time is short. Others are not to be refused on a guess.
    """
    if deadline is None or options.quality is not Quality.ADAPTIVE:
        return deadline
    seconds = options.frames * state.codecs.expect_encoding(frame, format)
    return deadline - min(seconds, max(0.0, ENCODING_PART * (deadline - state.clock())))


def admit(state: AppState, request: PredictRequest, holding: ByteHolding | None = None) -> None:
    """Reserve the answer in `holding` before the engine is asked. Raises QueueFull, DeadlineExceeded if late."""
    check_deadline(state, request.deadline, "admit", "the deadline passed while the frames were read")
    if holding is not None:
        holding.grow(answer_reserve(request))


async def encode(
    state: AppState,
    result: PredictResult,
    format: ImageFormat,
    quality: int | None,
    deadline: float | None = None,
    times: PairTimes = UNTIMED,
    *,
    decode_seconds: float = 0.0,
    turn_seconds: float = 0.0,
    is_adaptive: bool = False,
    eager_encoding: EagerEncoding | None = None,
) -> EncodedPrediction:
    """Encode every step of a result. Raises DeadlineExceeded if `deadline` has passed by then.

    `decode_seconds`, `turn_seconds`: what decoding took, and waiting for a turn within its stream, before the engine
    had the request. What an adaptive request's answer takes is learnt, for `engine_deadline`. `eager_encoding`: what
    may have begun to encode the result.
    """
    encoding = None if eager_encoding is None else eager_encoding.begun(result)
    if encoding is None:
        start = state.clock()
        pictures = await encode_steps(state.codecs, result, format, quality, deadline)
    else:
        start, pictures = encoding.time, tuple(await encoding.work.results())
    if is_adaptive:
        state.codecs.learn_encoding(result.steps[0].frame, format, (state.clock() - start) / len(pictures))
    end = check_deadline(state, deadline, "late", "the deadline passed while the answer was written")
    timings = result.timings
    mixture = (("motion", timings.motion), ("mixing", timings.mixing)) if timings.motion else ()
    stages = (
        ("decode", decode_seconds),
        ("queue", turn_seconds + timings.queue),
        ("route", timings.route),
        ("blocks", timings.blocks),
        *mixture,
        ("encode", end - start),
    )
    spare = None if deadline is None else deadline - end
    return EncodedPrediction(result, format, pictures, times.of_steps(result), stages, spare)


async def encode_steps(
    codecs: Codecs, result: PredictResult, format: ImageFormat, quality: int | None, deadline: float | None = None
) -> tuple[bytes, ...]:
    """Encode the frames of all steps, at once: `admit` has counted every one. What is due first is encoded first."""
    return await codecs.encode_together([step.frame for step in result.steps], format, quality, deadline)


async def together(works: Iterable[Awaitable[T]]) -> list[T]:
    """Run all `works` at once and return what they give. The first error is raised, the others cancelled and over."""
    tasks: list[asyncio.Future[T]] = [asyncio.ensure_future(work) for work in works]  # awaited: by gather below
    del works  # these may be the tasks themselves
    try:
        return await asyncio.gather(*tasks)
    finally:
        if unfinished := [task for task in tasks if not task.done()]:
            _cancel(unfinished)
            await asyncio.gather(*unfinished, return_exceptions=True)
        # An error's traceback holds this frame, and it the tasks with their errors: a cycle that would keep the frames.
        tasks.clear()
        unfinished.clear()


def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()


def routes_text(result: PredictResult) -> str:
    """Return the routes of all steps, comma-separated."""
    return ",".join([route_text(step.route) for step in result.steps])


def shares_text(result: PredictResult) -> str:
    """Return the mean share of each of a mixture's candidates, e.g. "projected=0.412,carried=0.201"."""
    return ",".join([f"{name}={share:.3f}" for name, share in result.shares.items()])
