"""What every stream has around its frames: its first message, and a span for each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from service.app_state import AppState
from service.core.errors import DeadlineExceeded
from service.serving.prediction import EncodedPrediction
from service.serving.streaming.messages import Draining
from service.serving.streaming.session import Answer, Done, Failed
from service.telemetry.tracing import Trace, Tracer

Message = TypeVar("Message")


def traced(tracer: Tracer, trace: Trace, answer: Answer[EncodedPrediction], now: float) -> None:
    """Record a span, within the stream's, of a frame that was predicted or failed; `now` on the clock it arrived by."""
    seconds = now - answer.tag.arrived
    match answer.outcome:
        case Done(value=value):
            tracer.part(trace, "frame", seconds, value.facts(), value.stages)
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
