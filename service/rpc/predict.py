"""dmvfn.v1: single predictions and live streams.

What they mean is decided in `service.serving.streaming.live_stream` and below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from service.app_state import AppState
from service.core.errors import InvalidRequest, ServiceError
from service.core.types import PredictRequest
from service.rpc import messages as convert
from service.rpc.call import CallHandler, readable
from service.serving.byte_budget import reserve_answer
from service.serving.streaming.live_stream import (
    Draining,
    Incoming,
    InvalidMessage,
    LiveStream,
    StreamRequest,
    decoded,
    encoded,
    opening,
    seeded,
    traced,
)
from service.serving.streaming.session import MAX_ID, Answer
from service.telemetry.metrics import Transport
from service.telemetry.tracing import Tracer

NAME = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name


class PredictionService(dmvfn_pb2_grpc.PredictionServiceServicer):
    """The servicer."""

    def __init__(self, parts: AppState, tracer: Tracer | None = None) -> None:
        self._parts = parts
        self._door = CallHandler(parts, Transport.GRPC, NAME, tracer)

    async def Predict(self, message: Any, context: Any) -> pb.PredictResponse:
        """The frames that follow a pair."""
        parts = self._parts
        async with self._door.call(context, "Predict", getattr(message, "request_id", "")) as call:
            asked: pb.PredictRequest = readable(message)
            chosen, format, quality = convert.options(asked.options, parts.settings.max_steps)
            for field, frame in (("previous", asked.previous), ("current", asked.current)):
                if len(frame.frame_id) > MAX_ID:
                    raise InvalidRequest(f"frame_id may have at most {MAX_ID} characters", field=f"{field}.frame_id")
            pictures = convert.picture(asked.previous, "previous"), convert.picture(asked.current, "current")
            began = parts.clock()
            request = PredictRequest(
                id=call.request_id,
                previous=await decoded(parts, pictures[0], "previous", call.holding),
                current=await decoded(parts, pictures[1], "current", call.holding),
                options=seeded(chosen),
                deadline=call.until(parts),
                client=call.client,
                traceparent=call.trace.traceparent,
            )
            decode = parts.clock() - began
            before, shown = convert.time_us(asked.previous), convert.time_us(asked.current)
            pace = shown - before if shown is not None and before is not None else None
            reserve_answer(call.holding, request)
            result = await parts.engine.predict(request)
            value = await encoded(parts, result, format, quality, (shown, pace), decode=decode)
            call.tell(value)
            answer = pb.PredictResponse(request_id=call.request_id, frame_id=asked.current.frame_id)
            convert.fill(answer.prediction, value)
            return answer
        raise AssertionError("the door lets no error through")

    async def StreamPredict(self, messages: AsyncIterator[Any], context: Any) -> None:
        """Frames in, each once; answers out, in order."""
        parts = self._parts
        # Written, not yielded: a cancelled call then ends this coroutine, and with it everything the stream began.
        async with self._door.call(context, "StreamPredict", counts=False) as call:
            first = await opening(parts, call.client, anext(aiter(messages), None))
            if isinstance(first, Draining):
                await context.write(convert.answer(first))
                return
            request, pushed = self._opened(first)
            live = LiveStream(
                parts,
                replace(request, ends=call.ends, traceparent=call.trace.traceparent),
                Transport.GRPC,
                client=call.client,
                identity=call.request_id,
            )
            try:
                async with aclosing(live.answers(_rest(pushed, messages, ended=first is None))) as answers:
                    async for answer in answers:
                        await context.write(convert.answer(answer))
                        if isinstance(answer, Answer):
                            traced(self._door.tracer, call.trace, answer, parts.clock())
            finally:
                call.notes.update(live.counts)

    def _opened(self, first: Any) -> tuple[StreamRequest, Incoming | None]:
        """What the stream is to be, and the first frame if it came instead of a `start`."""
        settings = self._parts.settings
        if first is None:
            return StreamRequest(), None
        message: pb.StreamPredictRequest = readable(first)
        if message.WhichOneof("message") == "start":
            with convert.within("start"):
                return convert.stream(
                    message.start, max_steps=settings.max_steps, max_deadline_ms=settings.max_deadline_ms
                ), None
        return StreamRequest(), convert.incoming(message)


async def _rest(pushed: Incoming | None, messages: AsyncIterator[Any], *, ended: bool) -> AsyncIterator[Incoming]:
    if pushed is not None:
        yield pushed
    if ended:
        return
    async for message in messages:
        try:
            yield convert.incoming(readable(message))
        except ServiceError as error:
            yield InvalidMessage(error)
