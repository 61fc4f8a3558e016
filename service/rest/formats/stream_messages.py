"""Messages of `/v1/stream`: JSON texts, and binary ones of a JSON header and pictures. Knows no socket."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from service.core import moments
from service.core.errors import InvalidRequest, ServiceError, retry_after
from service.core.types import Options, Quality, route_text
from service.imaging.codec import ImageFormat, check_quality
from service.rest.formats import concealed_messages
from service.rest.formats.json_body import FEW, read_object
from service.rest.formats.params import whole_number
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
from service.serving.streaming.session import MAX_ID, Answer, Done, Dropped, DropPolicy, Failed, First, StreamConfig
from service.serving.streaming.show_at import ShowAt

#: The subprotocol; browsers that offer any must be answered with one they offered.
SUBPROTOCOL = "dmvfn.v1"
#: Of a binary message's JSON header, bytes.
MAX_HEADER = 64 * 1024
#: Of a message's JSON, values: a frame's id may hold commas, which count as well.
MAX_VALUES = FEW + MAX_ID
#: What `start` may hold, and the JSON type of each.
START: dict[str, type] = {
    "type": str,
    "horizon": int,
    "t": object,  # a number, a list of them, or these as text
    "window": int,
    "policy": str,
    "scene_cuts": bool,
    "frame_deadline_ms": int,
    "format": str,
    "image_quality": int,
    "method": str,
    "version": str,
    "route": str,
    "seed": int,
    "blocks": int,
    "scale": float,
    "quality": str,
    "score": bool,
    "choose": bool,
    "conceal": dict,
    "show_at": str,
    "display_fps": float,
    "display_phase_us": int,
}
#: The same of a frame's header; with height and width the picture is raw RGB.
FRAME: dict[str, type] = {
    "type": str,
    "frame_id": str,
    "presentation_time_us": int,
    "height": int,
    "width": int,
    "stride": int,
    "number": int,
    "sent_us": int,
    "receipt": dict,
}
INT64 = range(-(2**63), 2**63)


def start(message: str | bytes, *, max_steps: int, max_deadline_ms: int) -> StreamRequest | None:
    """Read what the stream is to be; None if the message is no `start`."""
    if not isinstance(message, str):
        return None
    message_fields = _object(message)
    if message_fields.get("type") != "start":
        return None
    _check(message_fields, START)
    deadline_ms, image_quality = message_fields.get("frame_deadline_ms"), message_fields.get("image_quality")
    if deadline_ms is not None and not 0 < deadline_ms <= max_deadline_ms:
        raise InvalidRequest(
            f"frame_deadline_ms must be above 0 and at most {max_deadline_ms}", field="frame_deadline_ms"
        )
    # What browsers draw fastest, and a tenth of a PNG.
    format = _word(message_fields, "format", ImageFormat, ImageFormat.JPEG)
    check_quality(format, image_quality)
    plan = StreamConfig(
        window=message_fields.get("window", StreamConfig().window),
        policy=_word(message_fields, "policy", DropPolicy, DropPolicy.LATEST),
        scene_cuts=message_fields.get("scene_cuts", True),
    )
    return StreamRequest(
        _options(message_fields, max_steps),
        plan.check(),
        format,
        image_quality,
        None if deadline_ms is None else deadline_ms / 1000,
        show=ShowAt.parse(*(message_fields.get(name) for name in ("show_at", "display_fps", "display_phase_us"))),
        conceal=concealed_messages.concealment(message_fields.get("conceal")),
        score=message_fields.get("score", False),
        choose=message_fields.get("choose", False),
    ).check()


def _options(message_fields: dict[str, Any], max_steps: int) -> Options:
    scale, t = message_fields.get("scale"), message_fields.get("t")
    try:
        return Options.parse(
            method=message_fields.get("method"),
            version=message_fields.get("version"),
            route=message_fields.get("route"),
            seed=message_fields.get("seed"),
            blocks=message_fields.get("blocks"),
            scale=None if scale is None else float(scale),
            steps=message_fields.get("horizon"),
            quality=_word(message_fields, "quality", Quality, Quality.EXACT),
            times=() if t is None else moments.of_json(t),
        ).check(max_steps)
    except InvalidRequest as error:
        if error.field == "steps":
            error.field, error.message = "horizon", error.message.replace("steps", "horizon")
        raise


def is_end(message: str | bytes) -> bool:
    """Tell whether the client says that no more frames come."""
    return isinstance(message, str) and len(message) < 64 and _type(message) == "end"


def incoming(message: str | bytes) -> Incoming:
    """Read a message after `start`."""
    if isinstance(message, str):
        if _type(message) == "reset":
            return Reset()
        if _type(message) == "start":
            raise InvalidRequest("start comes once, before every frame", field="type")
        raise InvalidRequest("the text must be a reset or an end; frames are binary messages", field="type")
    header, picture = _header_and_picture(message)
    frame_id, time_us = header.get("frame_id", ""), header.get("presentation_time_us")
    frame_id = frame_id if isinstance(frame_id, str) else ""
    time_us = time_us if type(time_us) is int and time_us in INT64 else None
    try:
        _check(header, FRAME)
        if header.get("type", "frame") != "frame":
            raise InvalidRequest("a binary message is a frame", field="type")
        if "presentation_time_us" in header and time_us is None:
            raise InvalidRequest("presentation_time_us must fit 64 bits", field="presentation_time_us")
        number = concealed_messages.number(header.get("number"))
        stamps = concealed_messages.stamps(header)
        return FrameMessage(_picture(header, picture), frame_id, time_us, number, *stamps)
    except ServiceError as error:
        return InvalidMessage(error, frame_id, time_us)


def answer(reply: Answer[EncodedPrediction] | ShownTick | Summary | Draining) -> str | bytes:
    """Write one frame's answer, what sums the stream up, or the goodbye."""
    if isinstance(reply, Draining):
        return json.dumps({"type": "draining"})
    if isinstance(reply, Summary):
        return json.dumps(concealed_messages.summary(reply))
    if isinstance(reply, ShownTick):
        header = concealed_messages.shown(reply)
        return json.dumps(header) if reply.picture is None else packed(header, reply.picture)
    tag = reply.tag
    head: dict[str, Any] = {"frame_id": tag.frame_id, "sequence": tag.sequence}
    if tag.time_us is not None:
        head["presentation_time_us"] = tag.time_us
    head |= concealed_messages.score(reply.score) | concealed_messages.show(reply.show)
    match reply.outcome:
        case Done(value=value):
            return _prediction(head, value)
        case First(why=why):
            head |= {"type": "first", "why": why}
        case Dropped():
            head |= {"type": "dropped"}
        case Failed(error=error):
            head |= {"type": "error", **_told(error)}
    return json.dumps(head)


def refusal(error: ServiceError) -> str:
    """Write the message that says why the stream ends before its time."""
    return json.dumps({"type": "refused", **_told(error)})


def packed(header: dict[str, Any], *pictures: bytes) -> bytes:
    """Pack a binary message: four bytes, little-endian, the length of the JSON header; the header; the pictures."""
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, *pictures])


def _prediction(head: dict[str, Any], value: EncodedPrediction) -> bytes:
    result = value.result
    frames = []
    for step, picture, time_us in zip(result.steps, value.pictures, value.times_us, strict=True):
        frame: dict[str, Any] = {
            "bytes": len(picture),
            "media_type": value.format.media_type,
            "height": step.frame.height,
            "width": step.frame.width,
            "route": route_text(step.route),
            "flops": step.flops,
        }
        if time_us is not None:
            frame["presentation_time_us"] = time_us
        if step.t is not None:
            frame["t"] = step.t
        frames.append(frame)
    head |= {
        "type": "prediction",
        "frames": frames,
        "method": result.method,
        "model_version": result.model_version,
        "batch_size": result.batch_size,
        "shortened": result.shortened,
        "timings": dict(value.stages),
    }
    if value.predictor:
        head["predictor"] = value.predictor
    if result.shares:
        head["shares"] = {name: round(share, 4) for name, share in result.shares.items()}
    if result.seed is not None:
        head["seed"] = result.seed
    return packed(head, *value.pictures)


def _told(error: ServiceError) -> dict[str, Any]:
    details: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "reason": error.reason,
        "field": error.field,
    }
    wait = retry_after(error)
    if wait is not None:
        details["retry_after_ms"] = math.ceil(wait * 1000)
    return {name: value for name, value in details.items() if value is not None}


def _header_and_picture(message: bytes) -> tuple[dict[str, Any], bytes]:
    if len(message) < 4:
        raise InvalidRequest("a frame begins with the length of its header", field="header")
    (size,) = struct.unpack_from("<I", message)
    if size > MAX_HEADER or 4 + size > len(message):
        raise InvalidRequest("the header's length is not within the message", field="header")
    return _object(message[4 : 4 + size], "header"), message[4 + size :]


def _picture(header: dict[str, Any], data: bytes) -> Picture:
    if "height" not in header and "width" not in header:
        return Picture(data)
    if "height" not in header or "width" not in header:
        raise InvalidRequest("a raw picture has a height and a width", field="height")
    return Picture(data, (header["height"], header["width"]), header.get("stride"))


def _object(text: bytes | str, name: str = "message") -> dict[str, Any]:
    if len(text) > MAX_HEADER:
        raise InvalidRequest(f"a message of text may have at most {MAX_HEADER} characters", field=name)
    return read_object(text, max_values=MAX_VALUES, name=name)


def _type(text: str) -> object:
    return _object(text).get("type")


def _check(members: dict[str, Any], types: dict[str, type]) -> None:
    """Refuse a member that is not known or not of its type; 2.0 becomes 2 where a whole number is wanted."""
    for name, value in members.items():
        kind = types.get(name)
        if kind is int:
            members[name] = value = whole_number(value)
        if kind is None:
            raise InvalidRequest(f"{name[:40]!r} is not known; there are {', '.join(types)}", field=name[:40])
        is_number = kind is float and type(value) is int and abs(value) < 2**53
        if kind is not object and type(value) is not kind and not is_number:
            raise InvalidRequest(f"{name} has the wrong type", field=name)


def _word(members: dict[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = members.get(name)
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(f"{name} must be one of {', '.join(kind)}", field=name) from None
