"""Between what streams say beside predictions (scores, aims, concealment, summaries) and our own values."""

from __future__ import annotations

from dataclasses import asdict

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.core.errors import InvalidRequest
from service.imaging.codec import ImageFormat
from service.serving.streaming.concealment import Concealment, TickSource
from service.serving.streaming.messages import ConcealmentReport, ShownTick, Summary
from service.serving.streaming.online_score import ScoreReport
from service.serving.streaming.show_at import AnswerReceipt, ShowAt, ShowReport

#: The largest number of a frame: what JSON carries exactly.
MOST_NUMBER = 2**53
SOURCES = {
    TickSource.REAL: pb.Shown.SOURCE_REAL,
    TickSource.BLENDED: pb.Shown.SOURCE_BLENDED,
    TickSource.PREDICTED: pb.Shown.SOURCE_PREDICTED,
    TickSource.REPEATED: pb.Shown.SOURCE_REPEATED,
}


def concealment(start: pb.StreamStart) -> Concealment | None:
    """Read how the stream is to be concealed. Raises InvalidRequest naming the field."""
    if not start.HasField("conceal"):
        return None
    message, default = start.conceal, Concealment(1)
    return Concealment(
        message.fps,
        message.most if message.HasField("most") else default.most,
        message.blend if message.HasField("blend") else default.blend,
        message.delay_ms / 1000 if message.HasField("delay_ms") else None,
    ).check()


def number(frame: pb.Frame) -> int | None:
    """Return a frame's place in its sequence; None where the client did not say. Raises InvalidRequest."""
    if not frame.HasField("number"):
        return None
    if frame.number > MOST_NUMBER:
        raise InvalidRequest(f"number may be at most {MOST_NUMBER}", field="frame.number")
    return int(frame.number)


def stamps(frame: pb.Frame) -> tuple[int | None, AnswerReceipt | None]:
    """Read when a frame was sent, and when the client had an earlier answer."""
    receipt = AnswerReceipt(frame.receipt.sequence, frame.receipt.received_us) if frame.HasField("receipt") else None
    return (int(frame.sent_us) if frame.HasField("sent_us") else None), receipt


def show_wish(start: pb.StreamStart) -> ShowAt | None:
    """Read when frames are seen. Raises InvalidRequest naming the field."""
    return ShowAt.parse(
        start.show_at if start.HasField("show_at") else None,
        start.display_fps if start.HasField("display_fps") else None,
        start.display_phase_us if start.HasField("display_phase_us") else None,
    )


def show(report: ShowReport) -> pb.Show:
    """Write what an answer aimed at; what no field holds is left out."""
    errors_us = [aimed_us for aimed_us in report.aimed_us if abs(aimed_us) < 2**63]
    miss_us = report.miss_us if report.miss_us is not None and abs(report.miss_us) < 2**63 else None
    return pb.Show(aimed_us=errors_us, received_us=report.received_us, replied_us=report.replied_us, miss_us=miss_us)


def score(report: ScoreReport) -> pb.Score:
    """Write a score."""
    return pb.Score(**asdict(report))


def summary(reply: Summary) -> pb.StreamPredictResponse:
    """Write the message that ends a stream: its score, and what became of its frames and ticks."""
    message = pb.Summary(
        frames=reply.frames,
        score=None if reply.score is None else score(reply.score),
        concealed=_concealed(reply.concealed),
    )
    return pb.StreamPredictResponse(summary=message)


def shown(tick: ShownTick, encoding: pb.Encoding) -> pb.StreamPredictResponse:
    """Write one tick; `encoding` of its picture."""
    message = pb.StreamPredictResponse(frame_id=tick.frame_id)
    message.shown.number, message.shown.source = tick.number, SOURCES[tick.source]
    if tick.time_us is not None and abs(tick.time_us) < 2**63:
        message.presentation_time_us = tick.time_us
    if tick.picture is not None:
        frame = message.shown.frame
        frame.encoding = encoding
        if tick.format is ImageFormat.RAW:
            raw = frame.raw
            raw.height, raw.width, raw.stride, raw.pixels = tick.height, tick.width, 3 * tick.width, tick.picture
        else:
            frame.encoded = tick.picture
    return message


def _concealed(report: ConcealmentReport | None) -> pb.ConcealmentReport | None:
    if report is None:
        return None
    return pb.ConcealmentReport(
        ticks=report.ticks,
        freezes=pb.Freezes(**asdict(report.freezes)),
        freezes_repeating=pb.Freezes(**asdict(report.freezes_repeating)),
    )
