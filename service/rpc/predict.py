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
from service.rpc import messages as convert
from service.rpc.call import CallHandler, readable
from service.serving import prediction
from service.serving.prediction import Caller, PairTimes, PicturePair
from service.serving.streaming.messages import Draining, Incoming, InvalidMessage, StreamRequest
from service.serving.streaming.opening import opening, traced
from service.serving.streaming.session import MAX_ID, Answer
from service.serving.streaming.stream_kinds import open_stream
from service.telemetry.metrics import Transport
from service.telemetry.tracing import Tracer

NAME = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name


class PredictionService(dmvfn_pb2_grpc.PredictionServiceServicer):
    """The methods of the service, one for each call of its contract."""

    def __init__(self, state: AppState, tracer: Tracer | None = None) -> None:
        self._state = state
        self._handler = CallHandler(state, Transport.GRPC, NAME, tracer)

    async def Predict(self, message: Any, context: Any) -> pb.PredictResponse:
        """Predict the frames that follow a pair."""
        state = self._state
        async with self._handler.call(context, "Predict", getattr(message, "request_id", "")) as call:
            prediction.check_ready(state.engine)
            body: pb.PredictRequest = readable(message)
            options, format, quality = convert.options(body.options, state.settings.max_steps)
            for field, frame in (("previous", body.previous), ("current", body.current)):
                if len(frame.frame_id) > MAX_ID:
                    raise InvalidRequest(f"frame_id may have at most {MAX_ID} characters", field=f"{field}.frame_id")
            pair = PicturePair(convert.picture(body.previous, "previous"), convert.picture(body.current, "current"))
            previous_time_us, time_us = convert.time_us(body.previous), convert.time_us(body.current)
            interval_us = time_us - previous_time_us if time_us is not None and previous_time_us is not None else None
            caller = Caller.of(call, call.request_deadline(state), call.holding)
            frame_id = body.current.frame_id
            predicting = prediction.predict(
                state, pair, options, format, quality, caller, PairTimes(time_us, interval_us)
            )
            del message, body, frame, pair  # what is decoded lets go of the message
            value = await predicting
            value.report(call)
            answer = pb.PredictResponse(request_id=call.request_id, frame_id=frame_id)
            convert.fill(answer.prediction, value)
            return answer
        raise AssertionError("the handler lets no error through")

    async def StreamPredict(self, messages: AsyncIterator[Any], context: Any) -> None:
        """Read frames, each once; write answers, in order."""
        state = self._state
        # Written, not yielded: a cancelled call then ends this coroutine, and with it everything the stream began.
        async with self._handler.call(context, "StreamPredict", counts=False) as call:
            first = await opening(state, call.client, anext(aiter(messages), None))
            if isinstance(first, Draining):
                await context.write(convert.answer(first))
                return
            request, first_message = self._opened(first)
            live = open_stream(
                state,
                replace(request.opened_by(call), deadline=call.deadline),
                Transport.GRPC,
                client=call.client,
                identity=call.request_id,
            )
            try:
                async with aclosing(live.answers(_rest(first_message, messages, is_over=first is None))) as answers:
                    async for answer in answers:
                        await context.write(convert.answer(answer))
                        if isinstance(answer, Answer):
                            traced(self._handler.tracer, call.trace, answer, state.clock())
            finally:
                call.notes.update(live.counts)

    def _opened(self, first: Any) -> tuple[StreamRequest, Incoming | None]:
        """Read what the stream is to be, and the first frame if it came instead of a `start`."""
        settings = self._state.settings
        if first is None:
            return StreamRequest(), None
        message: pb.StreamPredictRequest = readable(first)
        if message.WhichOneof("message") == "start":
            with convert.within("start"):
                return convert.stream(
                    message.start, max_steps=settings.max_steps, max_deadline_ms=settings.max_deadline_ms
                ), None
        return StreamRequest(), convert.incoming(message)


async def _rest(
    first_message: Incoming | None, messages: AsyncIterator[Any], *, is_over: bool
) -> AsyncIterator[Incoming]:
    if first_message is not None:
        yield first_message
    if is_over:
        return
    async for message in messages:
        try:
            yield convert.incoming(readable(message))
        except ServiceError as error:
            yield InvalidMessage(error)
