"""Members of `/v1/stream`'s messages beside predictions: scores, aims, concealment, summaries. Knows no socket."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.core.errors import InvalidRequest
from service.serving.streaming.concealment import Concealment
from service.serving.streaming.messages import ShownTick, Summary
from service.serving.streaming.online_score import ScoreReport
from service.serving.streaming.show_at import AnswerReceipt, ShowReport

#: The largest number of a frame: what JSON carries exactly.
MOST_NUMBER = 2**53
#: What `conceal` may hold.
_MEMBERS = {"fps": (int, float), "most": (int,), "blend": (int,), "delay_ms": (int, float)}


def concealment(members: dict[str, Any] | None) -> Concealment | None:
    """Read how the stream is to be concealed. Raises InvalidRequest naming the field."""
    if members is None:
        return None
    for name, value in members.items():
        if name not in _MEMBERS:
            raise InvalidRequest(f"{name[:40]!r} is not known; there are {', '.join(_MEMBERS)}", field="conceal")
        if type(value) not in _MEMBERS[name]:
            raise InvalidRequest(f"{name} has the wrong type", field=f"conceal.{name}")
    if "fps" not in members:
        raise InvalidRequest("conceal needs fps, the clock's", field="conceal.fps")
    delay_ms, default = members.get("delay_ms"), Concealment(1)
    return Concealment(
        members["fps"],
        members.get("most", default.most),
        members.get("blend", default.blend),
        None if delay_ms is None else delay_ms / 1000,
    ).check()


def number(value: int | None) -> int | None:
    """Return a frame's place in its sequence; None where the client did not say. Raises InvalidRequest."""
    if value is not None and not 0 <= value <= MOST_NUMBER:
        raise InvalidRequest(f"number must be between 0 and {MOST_NUMBER}", field="number")
    return value


def stamps(header: dict[str, Any]) -> tuple[int | None, AnswerReceipt | None]:
    """Read when a frame was sent, and when the client had an earlier answer. Raises InvalidRequest."""
    sent_us, members = header.get("sent_us"), header.get("receipt")
    if sent_us is not None and abs(sent_us) > MOST_NUMBER:
        raise InvalidRequest(f"sent_us must be within {MOST_NUMBER}", field="sent_us")
    if members is None:
        return sent_us, None
    sequence, received_us = members.get("sequence"), members.get("received_us")
    if set(members) != {"sequence", "received_us"} or type(sequence) is not int or type(received_us) is not int:
        raise InvalidRequest("receipt has a sequence and received_us, both whole numbers", field="receipt")
    if not (abs(sequence) <= MOST_NUMBER and abs(received_us) <= MOST_NUMBER):
        raise InvalidRequest(f"receipt's numbers must be within {MOST_NUMBER}", field="receipt")
    return sent_us, AnswerReceipt(sequence, received_us)


def show(report: ShowReport | None) -> dict[str, Any]:
    """Write what an answer aimed at as a member; none where there is none."""
    return {} if report is None else {"show": asdict(report)}


def score(report: ScoreReport | None) -> dict[str, Any]:
    """Write a score as a member; none where there is none."""
    if report is None:
        return {}
    return {"score": {name: round(value, 3) for name, value in asdict(report).items()}}


def summary(reply: Summary) -> dict[str, Any]:
    """Write the message that ends a stream: its score, and what became of its frames and ticks."""
    message: dict[str, Any] = {"type": "summary", "frames": reply.frames} | score(reply.score)
    return message if reply.concealed is None else message | {"concealed": asdict(reply.concealed)}


def shown(tick: ShownTick) -> dict[str, Any]:
    """Write one tick; with a picture, the header of a binary message."""
    header: dict[str, Any] = {"type": "shown", "number": tick.number, "source": tick.source}
    if tick.frame_id:
        header["frame_id"] = tick.frame_id
    if tick.time_us is not None:
        header["presentation_time_us"] = tick.time_us
    if tick.picture is not None:
        media_type, nbytes = tick.format.media_type, len(tick.picture)
        frame = {"bytes": nbytes, "media_type": media_type, "height": tick.height, "width": tick.width}
        header["frames"] = [frame]
    return header
