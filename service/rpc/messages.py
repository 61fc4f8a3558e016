"""Between dmvfn.v1 messages and our own values. Every number a client may send is either used or refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.core import moments
from service.core.errors import InvalidRequest, ServiceError, retry_after
from service.core.types import Options, Quality, route_text
from service.imaging.codec import ImageFormat, check_quality
from service.rpc import errors, stream_messages
from service.serving.prediction import EncodedPrediction, Picture
from service.serving.streaming.messages import (
    Draining,
    FrameMessage,
    Incoming,
    InvalidMessage,
    Reset,
    ShownTick,
    StreamRequest,
    Summary,
)
from service.serving.streaming.session import (
    Answer,
    Done,
    Dropped,
    DropPolicy,
    Failed,
    First,
    FirstReason,
    StreamConfig,
)

FORMATS = {
    pb.ENCODING_UNSPECIFIED: ImageFormat.RAW,
    pb.ENCODING_RAW: ImageFormat.RAW,
    pb.ENCODING_PNG: ImageFormat.PNG,
    pb.ENCODING_JPEG: ImageFormat.JPEG,
    pb.ENCODING_WEBP: ImageFormat.WEBP,
    pb.ENCODING_PPM: ImageFormat.PPM,
}
ENCODINGS = {format: encoding for encoding, format in FORMATS.items() if encoding}
QUALITIES = {
    pb.QUALITY_UNSPECIFIED: Quality.EXACT,
    pb.QUALITY_EXACT: Quality.EXACT,
    pb.QUALITY_ADAPTIVE: Quality.ADAPTIVE,
    pb.QUALITY_FAST: Quality.FAST,
}
POLICIES = {
    pb.POLICY_UNSPECIFIED: DropPolicy.LATEST,
    pb.POLICY_LATEST: DropPolicy.LATEST,
    pb.POLICY_ALL: DropPolicy.ALL,
}
REASONS = {
    FirstReason.START: pb.First.REASON_START,
    FirstReason.SIZE: pb.First.REASON_SIZE,
    FirstReason.SCENE_CUT: pb.First.REASON_SCENE_CUT,
    FirstReason.RESET: pb.First.REASON_RESET,
    FirstReason.GAP: pb.First.REASON_GAP,
}
INT64 = range(-(2**63), 2**63)


@contextmanager
def within(path: str) -> Iterator[None]:
    """Report the fields of errors raised inside as `path`.field."""
    try:
        yield
    except ServiceError as error:
        error.field = f"{path}.{error.field}" if error.field else path
        raise


def options(
    message: pb.Options, max_steps: int, horizon: int | None = None, *, is_stream: bool = False
) -> tuple[Options, ImageFormat, int | None]:
    """Read how to predict, and what to answer as. `horizon`: a stream's, said outside the options."""
    with within("options"):
        if message.encoding not in FORMATS:
            raise InvalidRequest(f"encoding {message.encoding} is not known", field="encoding")
        if message.quality not in QUALITIES:
            raise InvalidRequest(f"quality {message.quality} is not known", field="quality")
        image_quality = message.image_quality if message.HasField("image_quality") else None
        check_quality(FORMATS[message.encoding], image_quality)
        if is_stream and message.HasField("steps"):
            raise InvalidRequest("a stream's steps are its horizon", field="steps")
        times = moments.of_numbers(message.t)
        if horizon is None and message.HasField("steps"):
            horizon = message.steps
        values = Options.parse(
            method=message.method if message.HasField("method") else None,
            version=message.version if message.HasField("version") else None,
            route=message.route or None,
            seed=message.seed if message.HasField("seed") else None,
            blocks=message.blocks if message.HasField("blocks") else None,
            scale=message.scale if message.HasField("scale") else None,
            steps=horizon,
            quality=QUALITIES[message.quality],
            maps=message.maps,
            times=times,
        )
        return values.check(max_steps), FORMATS[message.encoding], image_quality


def stream(start: pb.StreamStart, *, max_steps: int, max_deadline_ms: int) -> StreamRequest:
    """Read what a stream's first message asks for."""
    if start.policy not in POLICIES:
        raise InvalidRequest(f"policy {start.policy} is not known", field="policy")
    deadline_ms = start.frame_deadline_ms if start.HasField("frame_deadline_ms") else None
    if deadline_ms is not None and not 0 < deadline_ms <= max_deadline_ms:
        raise InvalidRequest(
            f"frame_deadline_ms must be above 0 and at most {max_deadline_ms}", field="frame_deadline_ms"
        )
    plan = StreamConfig(
        window=start.window if start.HasField("window") else StreamConfig().window,
        policy=POLICIES[start.policy],
        scene_cuts=start.scene_cuts if start.HasField("scene_cuts") else True,
    )
    try:
        horizon = start.horizon if start.HasField("horizon") else None
        values, format, quality = options(start.options, max_steps, horizon, is_stream=True)
    except InvalidRequest as error:
        if error.field == "options.steps" and not start.options.HasField("steps"):
            # Where, and as what, the client said it.
            error.field, error.message = "horizon", error.message.replace("steps", "horizon")
        raise
    deadline_s = None if deadline_ms is None else deadline_ms / 1000
    conceal, show = stream_messages.concealment(start), stream_messages.show_wish(start)
    return StreamRequest(
        values,
        plan.check(),
        format,
        quality,
        deadline_s,
        score=start.score,
        conceal=conceal,
        show=show,
        choose=start.choose,
    ).check()


def picture(frame: pb.Frame, field: str) -> Picture:
    """Return the picture in a frame."""
    kind = frame.WhichOneof("picture")
    if kind == "encoded":
        return Picture(frame.encoded)
    if kind == "raw":
        raw = frame.raw
        return Picture(raw.pixels, (raw.height, raw.width), raw.stride or None)
    raise InvalidRequest(f"{field} has no picture", field=f"{field}.picture")


def time_us(frame: pb.Frame) -> int | None:
    """Return when the frame is shown, microseconds; None where the client did not say."""
    return int(frame.presentation_time_us) if frame.HasField("presentation_time_us") else None


def incoming(message: pb.StreamPredictRequest) -> Incoming:
    """Read a stream's message after the first `start`."""
    kind = message.WhichOneof("message")
    if kind == "frame":
        frame = message.frame
        try:
            number, stamps = stream_messages.number(frame), stream_messages.stamps(frame)
            return FrameMessage(picture(frame, "frame"), frame.frame_id, time_us(frame), number, *stamps)
        except ServiceError as error:
            return InvalidMessage(error, frame.frame_id, time_us(frame))
    if kind == "reset":
        return Reset()
    if kind == "start":
        return InvalidMessage(InvalidRequest("start comes once, before every frame", field="start"))
    return InvalidMessage(InvalidRequest("the message holds neither a frame nor a reset", field="message"))


def fill(message: pb.Prediction, value: EncodedPrediction) -> None:
    """Write what one pair led to into its place: pictures are megabytes, and a message built apart is copied again."""
    result = value.result
    message.model_version, message.shortened, message.batch_size = (
        result.model_version,
        result.shortened,
        result.batch_size,
    )
    for name, seconds in value.stages:
        setattr(message.timings, name, seconds)
    message.method = result.method
    message.shares.update(result.shares)
    message.cut = result.is_cut
    if result.seed is not None:
        message.seed = result.seed
    for step, data, presentation_time_us in zip(result.steps, value.pictures, value.times_us, strict=True):
        frame = message.frames.add(encoding=ENCODINGS[value.format], route=route_text(step.route), flops=step.flops)
        if value.format is ImageFormat.RAW:
            raw = frame.raw
            raw.height, raw.width, raw.stride = step.frame.height, step.frame.width, 3 * step.frame.width
            raw.pixels = data
        else:
            frame.encoded = data
        # Times are the client's numbers; two of them can add up to more than the field holds.
        if presentation_time_us is not None and presentation_time_us in INT64:
            frame.presentation_time_us = presentation_time_us
        if step.t is not None:
            frame.t = step.t
        if step.flow is not None:
            maps = frame.maps
            maps.height, maps.width = step.frame.height, step.frame.width
            for name in ("flow", "mask", "confidence"):
                if (values := getattr(step, name)) is not None:
                    setattr(maps, name, values.astype("<f4", copy=False).tobytes())


def error(failure: ServiceError) -> pb.Error:
    """Write one frame's failure."""
    message = pb.Error(
        code=failure.code,
        message=errors.text(failure),
        field=failure.field or "",
        reason=failure.reason or "",
        status=errors.number(failure),
    )
    seconds = retry_after(failure)
    if seconds is not None:
        message.retry_after_ms = math.ceil(seconds * 1000)
    return message


def answer(reply: Answer[EncodedPrediction] | ShownTick | Summary | Draining) -> pb.StreamPredictResponse:
    """Write one frame's answer, what sums the stream up, or the goodbye."""
    if isinstance(reply, Draining):
        return pb.StreamPredictResponse(draining=pb.Draining())
    if isinstance(reply, Summary):
        return stream_messages.summary(reply)
    if isinstance(reply, ShownTick):
        return stream_messages.shown(reply, ENCODINGS[reply.format])
    tag = reply.tag
    message = pb.StreamPredictResponse(frame_id=tag.frame_id, sequence=tag.sequence)
    if tag.time_us is not None:
        message.presentation_time_us = tag.time_us
    if reply.show is not None:
        message.show.CopyFrom(stream_messages.show(reply.show))
    if reply.score is not None:
        message.score.CopyFrom(stream_messages.score(reply.score))
    match reply.outcome:
        case Done(value=value):
            fill(message.prediction, value)
            message.predictor = value.predictor
        case First(why=why):
            message.first.reason = REASONS[why]
        case Dropped():
            message.dropped.SetInParent()
        case Failed(error=failure):
            message.error.CopyFrom(error(failure))
    return message
