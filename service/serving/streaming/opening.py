"""What every stream has around its frames: its first message, the next ones in time, decoding, spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from service.app_state import AppState
from service.core.errors import DeadlineExceeded, InvalidRequest
from service.core.types import Frame
from service.serving import prediction
from service.serving.prediction import EncodedPrediction
from service.serving.streaming.messages import Draining, FrameMessage, Incoming, InvalidMessage
from service.serving.streaming.session import MAX_ID, Answer, Done, Failed
from service.telemetry.tracing import Trace, Tracer

Message = TypeVar("Message")


def traced(tracer: Tracer, trace: Trace, answer: Answer[EncodedPrediction], now: float) -> None:
    """Record a span, within the stream's, of a frame that was predicted or failed; `now` on the clock it arrived by."""
    seconds = now - answer.tag.arrived
    match answer.outcome:
        case Done(value=value):
            tracer.part(trace, "frame", seconds, value.log_fields(), value.stages)
        case Failed(error=error):
            tracer.part(trace, "frame", seconds, {}, error=error.code)


async def opening(state: AppState, client: str, first: Awaitable[Message]) -> Message | Draining:
    """Return a stream's first message, or Draining if the server stops before it comes.

    Who opens a stream and says nothing is counted, told to leave, and given no longer than any idle stream.
    """
    settings, waiting = state.settings, asyncio.ensure_future(first)  # awaited below
    try:
        with state.streams.place(
            client, waiting.cancel, most=settings.max_streams, most_of_client=settings.max_client_streams
        ):
            await asyncio.wait({waiting}, timeout=settings.stream_idle_s or None)
            if not waiting.done():
                raise idle(settings.stream_idle_s)
            return Draining() if waiting.cancelled() else waiting.result()
    finally:
        waiting.cancel()


def idle(seconds: float) -> DeadlineExceeded:
    """Return the error of a stream in which nothing came for so long."""
    return DeadlineExceeded(f"no frame came for {seconds:g} seconds", reason="idle")


async def next_message(source: AsyncIterator[Incoming], idle_s: float) -> Incoming | None:
    """Return the client's next message; None at the end. DeadlineExceeded if none comes for `idle_s` (0: no limit)."""
    try:
        async with asyncio.timeout(idle_s or None):
            return await anext(source, None)
    except TimeoutError:
        raise idle(idle_s) from None


async def decoded(state: AppState, message: FrameMessage | InvalidMessage, deadline: float) -> Frame:
    """Return the frame of a message, wanted by `deadline`. Raises the ServiceError that is to be its answer."""
    if isinstance(message, InvalidMessage):
        raise message.error
    if len(message.frame_id) > MAX_ID:
        raise InvalidRequest(f"frame_id may have at most {MAX_ID} characters", field="frame.frame_id")
    return await prediction.decode(state, message.picture, "frame", deadline=deadline)
