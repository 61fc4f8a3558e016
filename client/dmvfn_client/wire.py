"""Between our values and dmvfn.v1 messages. Does no I/O."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

from dmvfn_client import errors, stream_values
from dmvfn_client.errors import ConnectionFailed, DmvfnError, InvalidInput
from dmvfn_client.headers import bearer
from dmvfn_client.options import Options, chosen
from dmvfn_client.pb import dmvfn_pb2 as pb
from dmvfn_client.pictures import Picture, Pixels, Shot, raw, to_bytes, to_pixels
from dmvfn_client.stream_values import Score, Show, Shown, StreamParams, Summary
from dmvfn_client.values import Frame, Prediction

SERVICE = "/dmvfn.v1.PredictionService"
#: A 4K frame raw is 25 MB, and an answer may have several; the service bounds what it takes itself.
CHANNEL = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_QUALITY = {
    "exact": pb.QUALITY_EXACT,
    "adaptive": pb.QUALITY_ADAPTIVE,
    "fast": pb.QUALITY_FAST,
}
_POLICY = {"latest": pb.POLICY_LATEST, "all": pb.POLICY_ALL}
_STAGES = ("decode", "queue", "route", "blocks", "encode")
_MIXTURE_STAGES = ("motion", "mixing")
#: Where the service sends no code of its own.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_request",
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "queue_full",
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline_exceeded",
    grpc.StatusCode.UNIMPLEMENTED: "unsupported",
}


class Kind(enum.Enum):
    """What became of one frame of a stream."""

    PREDICTION = "prediction"
    FIRST = "first"  #: it begins a new pair: there is nothing to predict from yet
    DROPPED = "dropped"  #: a newer frame came before its turn
    ERROR = "error"  #: only this frame failed
    SHOWN = "shown"  #: one tick of a concealed stream
    SUMMARY = "summary"  #: the last message of a stream that asked for one: it answers no frame
    DRAINING = "draining"  #: the last message: the service stops


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One frame's. `prediction` is set for PREDICTION, `error` for ERROR; `sequence` counts frames from 0.

    `frame_id` and `time_us` are those of the frame it answers.
    """

    kind: Kind
    sequence: int
    frame_id: str
    prediction: Prediction | None = None
    error: DmvfnError | None = None
    why: str | None = None  #: of FIRST: start, size, scene_cut, reset or gap
    time_us: int | None = None
    score: Score | None = None  #: how good predictions have been, where the stream asked for it
    summary: Summary | None = None  #: of SUMMARY
    shown: Shown | None = None  #: of SHOWN
    show: Show | None = None  #: what it was aimed at, where the stream says when frames are seen
    predictor: str = ""  #: what predicted, where the stream leaves that open (`choose`): flow, live, mix or dmvfn


def channel(library: Any, target: str, credentials: grpc.ChannelCredentials | None) -> Any:
    """Open a channel of `library`, grpc or grpc.aio; with TLS where there are credentials.

    Raises InvalidInput for an address as HTTP's are: gRPC would take "http" for the name of a way to find hosts.
    """
    if target.startswith(("http:", "https:", "grpc:", "grpcs:")):
        why = f"{target!r} is no target of gRPC; give HOST:PORT, such as localhost:8001, and credentials for TLS"
        raise InvalidInput(why, code="invalid_request", field="target")
    if credentials:
        return library.secure_channel(target, credentials, CHANNEL)
    return library.insecure_channel(target, CHANNEL)


def methods(channel: Any) -> tuple[Any, Any]:
    """Return the service's methods on a channel: Predict and StreamPredict."""
    predict = channel.unary_unary(
        f"{SERVICE}/Predict",
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    )
    stream = channel.stream_stream(
        f"{SERVICE}/StreamPredict",
        request_serializer=pb.StreamPredictRequest.SerializeToString,
        response_deserializer=pb.StreamPredictResponse.FromString,
    )
    return predict, stream


def metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Return what goes with every call."""
    return (("authorization", bearer(api_key)),) if api_key else ()


def frame(picture: Picture, id: str = "", time_us: int | None = None, number: int | None = None) -> pb.Frame:
    """Pixels go raw, files as they are."""
    pixels = raw(picture)
    made = pb.Frame(frame_id=id, number=number)
    if time_us is not None:
        made.presentation_time_us = time_us
    if pixels is None:
        made.encoded = to_bytes(picture)
    else:
        # In its place: a message built apart would be copied into this one.
        made.raw.pixels, (made.raw.height, made.raw.width) = pixels.tobytes(), pixels.shape[:2]
    return made


def options(given: Options, maps: bool = False) -> pb.Options:
    """As a message; frames come back raw."""
    quality = chosen(given.quality, _QUALITY, "quality")
    return pb.Options(
        route=given.route or "",
        seed=given.seed,
        blocks=given.blocks,
        steps=given.steps,
        scale=given.scale,
        quality=pb.QUALITY_UNSPECIFIED if quality is None else _QUALITY[quality],
        maps=maps,
        method=given.method,
        version=given.version,
        t=given.times,
    )


def request(previous: Picture, current: Picture, given: Options, maps: bool) -> pb.PredictRequest:
    """Two frames to the next ones, under an id that names them in the service's log."""
    return pb.PredictRequest(
        previous=frame(previous), current=frame(current), options=options(given, maps), request_id=str(uuid.uuid4())
    )


def start(
    horizon: int | None,
    given: Options,
    policy: str,
    window: int | None,
    scene_cuts: bool,
    frame_deadline: float | None,
    params: StreamParams,
) -> pb.StreamPredictRequest:
    """A stream's first message; `frame_deadline` in seconds."""
    chosen(policy, _POLICY, "policy")
    begun = pb.StreamStart(
        horizon=horizon,
        options=options(given),
        policy=_POLICY[policy],
        window=window,
        scene_cuts=scene_cuts,
        frame_deadline_ms=None if frame_deadline is None else max(1, round(frame_deadline * 1000)),
    )
    stream_values.fill(begun, params)
    return pb.StreamPredictRequest(start=begun)


def sent(given: Picture | Shot, number: int) -> Iterator[pb.StreamPredictRequest]:
    """A stream's frame, and before it that it follows no other where that is so."""
    shot = given if isinstance(given, Shot) else Shot(given)
    if shot.jump:
        yield pb.StreamPredictRequest(reset=pb.Reset())
    id = str(number) if shot.id is None else shot.id
    message = frame(shot.picture, id, shot.time_us, shot.number)
    if shot.sent_us is not None:
        message.sent_us = shot.sent_us
    if shot.receipt is not None:
        message.receipt.sequence, message.receipt.received_us = shot.receipt
    yield pb.StreamPredictRequest(frame=message)


def prediction(made: pb.Prediction, request_id: str = "") -> Prediction:
    """As a value."""
    return Prediction(
        frames=tuple(_predicted(each) for each in made.frames),
        model=made.model_version,
        request_id=request_id,
        seed=made.seed if made.HasField("seed") else None,
        shortened=made.shortened,
        batch_size=made.batch_size,
        timings_ms={name: getattr(made.timings, name) * 1000 for name in _stages(made)},
        method=made.method or "dmvfn",
        shares=dict(made.shares),
        cut=made.cut,
    )


def _stages(made: pb.Prediction) -> tuple[str, ...]:
    return (*_STAGES, *_MIXTURE_STAGES) if made.timings.motion else _STAGES


def answer(made: pb.StreamPredictResponse) -> Answer:
    """As a value."""
    kind = Kind(made.WhichOneof("outcome"))
    found = error = why = None
    if kind is Kind.PREDICTION:
        found = prediction(made.prediction)
    elif kind is Kind.ERROR:
        error = _stream_error(made.error)
    elif kind is Kind.FIRST:
        why = pb.First.Reason.Name(made.first.reason).removeprefix("REASON_").lower()
    shown = made.presentation_time_us if made.HasField("presentation_time_us") else None
    score = stream_values.score(made.score) if made.HasField("score") else None
    summary = stream_values.summary(made.summary) if kind is Kind.SUMMARY else None
    aim = stream_values.show(made.show) if made.HasField("show") else None
    tick = None
    if kind is Kind.SHOWN:
        has_picture = made.shown.HasField("frame")
        tick = stream_values.shown(made.shown, _pixels(made.shown.frame) if has_picture else None)
    return Answer(
        kind, made.sequence, made.frame_id, found, error, why, shown, score, summary, tick, aim, made.predictor
    )


def failure(raised: grpc.RpcError) -> DmvfnError:
    """What a call's error is: its code, wait and request id stand in the details."""
    call: Any = raised
    status, message = call.code(), call.details() or "no details"
    told = _details(call.trailing_metadata() or ())
    code = told.get("code") or _STATUS.get(status)
    if code is None and status is grpc.StatusCode.UNAVAILABLE:
        # Without details it is not the service that speaks: nobody listens, or the connection broke.
        return ConnectionFailed(f"{message}; is the service running?")
    return errors.of(
        code or "internal",
        message,
        field=told.get("field"),
        reason=told.get("reason"),
        retry_after=told.get("retry_after"),
        request_id=told.get("request_id"),
    )


def _details(metadata: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    packed = next((value for key, value in metadata if key == "grpc-status-details-bin"), None)
    if packed is None:
        return {}
    status = status_pb2.Status.FromString(packed)
    told: dict[str, Any] = {}
    info, wait, id = details_pb2.ErrorInfo(), details_pb2.RetryInfo(), details_pb2.RequestInfo()
    for detail in status.details:
        if detail.Unpack(info):
            told["code"], told["field"] = info.metadata.get("code"), info.metadata.get("field")
            told["reason"] = info.reason.lower()
        elif detail.Unpack(wait):
            told["retry_after"] = wait.retry_delay.seconds + wait.retry_delay.nanos / 1e9
        elif detail.Unpack(id):
            told["request_id"] = id.request_id
    return told


def _stream_error(told: pb.Error) -> DmvfnError:
    waits = told.retry_after_ms / 1000 if told.HasField("retry_after_ms") else None
    return errors.of(told.code, told.message, field=told.field or None, reason=told.reason or None, retry_after=waits)


def _predicted(made: pb.PredictedFrame) -> Frame:
    flow = mask = trust = None
    if made.HasField("maps"):
        height, width = made.maps.height, made.maps.width
        flow = np.frombuffer(made.maps.flow, "<f4").reshape(height, width, 4)
        mask, trust = (
            np.frombuffer(values, "<f4").reshape(height, width) if values else None
            for values in (made.maps.mask, made.maps.confidence)
        )
    shown = made.presentation_time_us if made.HasField("presentation_time_us") else None
    moment = made.t if made.HasField("t") else None
    return Frame(_pixels(made), made.route, made.flops, flow, mask, shown, trust, moment)


def _pixels(made: pb.PredictedFrame) -> Pixels:
    if made.WhichOneof("picture") == "encoded":
        return to_pixels(made.encoded)
    raw_ = made.raw
    rows = np.frombuffer(raw_.pixels, np.uint8).reshape(raw_.height, raw_.stride or 3 * raw_.width)
    return np.ascontiguousarray(rows[:, : 3 * raw_.width]).reshape(raw_.height, raw_.width, 3)
