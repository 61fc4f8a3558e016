"""One ModelStreamInfer call: requests in, answers out in their order, a bounded number of them under way.

An error is an answer, and the stream goes on. When the server stops, what was taken is answered; a last error says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from proto.inference import inference_pb2 as pb
from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import ServiceError, Unavailable
from service.rpc import errors
from service.rpc.call import CallContext, CallHandler, readable
from service.rpc.message_reading import UnparsedMessage
from service.rpc.oip_messages import request, response
from service.serving.byte_budget import ByteHolding
from service.serving.oip import infer as oip_infer
from service.serving.prediction import Caller
from service.telemetry.metrics import Transport

#: Requests of one stream under way at once; beyond them its messages wait unread.
WINDOW = 16
#: Metadata by which a streaming client asks for real statuses instead of messages, ending the stream.
STRICT = "triton_grpc_error"
FINAL = "triton_enable_empty_final_response"

Responding = asyncio.Task[pb.ModelStreamInferResponse]


class InferStream:
    """The requests of one streaming call that are under way."""

    def __init__(self, state: AppState, handler: CallHandler, call: CallContext) -> None:
        self._state, self._handler, self._call = state, handler, call
        self._strict = (STRICT, "true") in {
            (key, value) for key, value in call.grpc_context.invocation_metadata() or ()
        }
        self._under_way: deque[tuple[Responding, ByteHolding, int]] = deque()  #: the last: bytes it asked with
        self._bytes = 0
        self._room, self._news = asyncio.Event(), asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._reading = self._draining = False

    async def run(self, messages: AsyncIterator[Any]) -> None:
        """Read and answer until the client has sent all and heard all, or the server stops."""
        settings, streams, metrics = self._state.settings, self._state.streams, self._state.metrics
        with streams.place(
            self._call.client, self._drain, most=settings.max_streams, most_of_client=settings.max_client_streams
        ):
            metrics.stream_opened(Transport.V2_GRPC)
            # awaited: its end wakes _answer, which raises what it raised
            self._reader = asyncio.create_task(self._read(messages))
            self._reader.add_done_callback(lambda _: self._news.set())
            try:
                await self._answer(self._reader)
                if self._draining:
                    await self._write(self._told(Unavailable("the server is stopping", reason="draining"), ""))
            finally:
                await self._stop(self._reader)
                metrics.stream_closed(Transport.V2_GRPC)

    def _drain(self) -> None:
        self._draining = True
        self._room.set()
        if self._reading and self._reader is not None:
            self._reader.cancel()

    async def _read(self, messages: AsyncIterator[Any]) -> None:
        iterator = aiter(messages)
        while not self._draining:
            if len(self._under_way) >= WINDOW or self._bytes >= self._state.settings.max_body_bytes:
                # Unread messages make HTTP/2 hold the client back; who reads no answers cannot pile them up here.
                self._room.clear()
                await self._room.wait()
                continue
            try:
                self._reading = True
                message = await anext(iterator, None)
            finally:
                self._reading = False
            if message is None:
                return
            # Its key may be withdrawn while it goes on.
            self._state.access.require(self._call.client, Scope.STREAMS, self._call.key_digest)
            nbytes = 0 if isinstance(message, UnparsedMessage) else message.ByteSize()
            self._bytes += nbytes
            holding = self._state.budget.open()
            # awaited: by _answer, in turn
            self._under_way.append((asyncio.create_task(self._infer(message, holding, nbytes)), holding, nbytes))
            self._news.set()

    async def _answer(self, reader: asyncio.Task[None]) -> None:
        while True:
            self._news.clear()
            while self._under_way:
                task, holding, nbytes = self._under_way.popleft()
                self._room.set()
                with holding:
                    await self._write(await task)
                self._bytes -= nbytes
                self._room.set()
            if reader.done():
                if not reader.cancelled():
                    reader.result()
                return
            await self._news.wait()

    async def _infer(self, message: Any, holding: ByteHolding, nbytes: int) -> pb.ModelStreamInferResponse:
        began, call = self._state.clock(), self._call
        caller = Caller.of(call, call.deadline, holding)
        try:
            await self._state.access.admit_next(call.client, Scope.STREAMS, call.key_digest)
            infer_request = readable(message)
            holding.grow(nbytes)
            answer = await oip_infer.infer(self._state, request(infer_request), caller)
        except ServiceError as error:
            self._handler.tracer.part(call.trace, "infer", self._state.clock() - began, {}, error=error.code)
            return self._told(error, getattr(message, "id", ""))
        final = FINAL in infer_request.parameters and infer_request.parameters[FINAL].bool_param
        slowest, seconds = answer.slowest, self._state.clock() - began
        self._handler.tracer.part(call.trace, "infer", seconds, slowest.log_fields(), slowest.stages)
        return pb.ModelStreamInferResponse(infer_response=response(oip_infer.ready_parameters(answer, final=final)))

    def _told(self, error: ServiceError, id: str) -> pb.ModelStreamInferResponse:
        if self._strict:
            raise error
        # Clients drop everything but the message; those that do not find the id.
        text = f"{error.code}: {errors.text(error)}"
        return pb.ModelStreamInferResponse(error_message=text, infer_response=pb.ModelInferResponse(id=id))

    async def _write(self, message: pb.ModelStreamInferResponse) -> None:
        await self._call.grpc_context.write(message)

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        """Withdraw everything that has not been answered."""
        tasks = [reader, *(task for task, _, _ in self._under_way)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, holding, _ in self._under_way:
            holding.release()
