"""What a gRPC call passes before a byte of its message is held: its key, a place to read in, time and bytes.

gRPC's own unary handlers read the whole message first, however large and slow, for whoever sends it. Here every method
is registered as one that reads for itself, so that a message is only asked for when there is a place for it; until
then HTTP/2 holds its sender back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc

from service.app_state import AppState
from service.core import auth
from service.core.api_keys import Scope
from service.core.errors import DeadlineExceeded, InvalidRequest, QueueFull, ServiceError, TooLarge, Unauthenticated
from service.core.forwarding import caller_of
from service.rpc.half_sent import HalfSentMessages
from service.rpc.message_fields import check_fields
from service.serving.access import AccessDecision
from service.serving.byte_budget import ByteHolding
from service.serving.fair_turns import FairTurns
from service.settings import MESSAGE_COPIES, MESSAGE_PARTS, Settings

#: Methods that ask for no key: health, reflection, and the Open Inference Protocol's own health.
HEALTH: tuple[str, ...] = ("/grpc.health.v1.Health/", "/inference.GRPCInferenceService/ServerLive")
HEALTH += ("/inference.GRPCInferenceService/ServerReady",)
REFLECTION = ("/grpc.reflection.",)
#: Methods by name that need a scope of their caller's key; the others take any key.
SCOPES = {
    "Predict": Scope.PREDICT,
    "ModelInfer": Scope.PREDICT,
    "StreamPredict": Scope.STREAMS,
    "ModelStreamInfer": Scope.STREAMS,
}
#: Seconds by which the news that a call's client has left may follow the news that no more messages come: gRPC tells
#: the one as soon as the other, by a thread of its own that a busy machine may hold up in between.
LEAVING_S = 0.02
#: Messages read at once for those who show no key, and the seconds that each may take: they are tiny.
OPEN_PLACES, OPEN_SECONDS = 4, 2.0

_decision: ContextVar[AccessDecision | None] = ContextVar("what the policy said of this call", default=None)
_ending: ContextVar[CallEnding | None] = ContextVar("what reports the end of this call", default=None)
_holding: ContextVar[ByteHolding | None] = ContextVar("what this call's bytes are counted in", default=None)


def holding_of_call(state: AppState) -> ByteHolding:
    """Return the holding in which the current call's bytes are counted."""
    holding = _holding.get()
    return state.budget.open() if holding is None else holding


async def decision_of_call(state: AppState, context: Any, method: str) -> AccessDecision:
    """Return what the policy says of the current call: it is asked once a call. Raises Unauthenticated."""
    if (decision := _decision.get()) is None:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        decision = await state.access.admit(auth.bearer(metadata.get("authorization")), SCOPES.get(method))
    return decision


class CallEnding:
    """The end of a call of one answer: it is reported when the answer was written, or could not be."""

    def __init__(self) -> None:
        self.report: Callable[[bool], None] | None = None  #: called with whether the answer was cut off

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Call `report` once the answer that the block writes is sent, or could not be."""
        try:
            yield
        except BaseException:
            if self.report is not None:
                self.report(True)
            raise
        if self.report is not None:
            # gRPC sends the status when the handler has returned, and before the loop's next turn.
            asyncio.get_running_loop().call_soon(self.report, False)


def ending_of_call() -> CallEnding | None:
    """Return what reports the end of the current call; None for a stream, which writes its answers itself."""
    return _ending.get()


class UnparsedMessage:
    """Stands where a message should be that is not there: `error` says why."""

    def __init__(self, error: ServiceError) -> None:
        self.error = error


def lenient_parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Parse as `parse`, but give `UnparsedMessage` for other bytes: gRPC would answer INTERNAL, as if we failed.

    Likewise for a message of so many fields that parsing it would take memory and time that its bytes do not show.
    """
    descriptor = getattr(getattr(parse, "__self__", None), "DESCRIPTOR", None)

    def parse_leniently(data: bytes) -> Any:
        try:
            if descriptor is not None:
                check_fields(data, descriptor)
            return parse(data)
        except TooLarge as error:
            return UnparsedMessage(error)
        except Exception:  # a protobuf runtime may raise what it likes
            return UnparsedMessage(InvalidRequest("the message is not what this method takes"))

    return parse_leniently


class ReadingPlaces:
    """Places to read so many messages at once, each within `seconds`; half of the places at most for one caller.

    A place is kept until the message is parsed and its bytes are let go of: grpcio copies a message twice on its way.
    """

    def __init__(self, places: int, seconds: float, half_sent: HalfSentMessages) -> None:
        self._turns = FairTurns(places, max(1, places // 2))
        self._seconds = seconds
        self._half_sent = half_sent
        self._waiting = 0

    async def next(self, context: Any, caller: str, parse: Callable[[bytes], Any], call: ExitStack) -> Any:
        """Read the next message, parsed; UnparsedMessage says why there is none, None that no more come.

        What an unread message has sent is counted until `call` ends.
        """
        waiting = True
        try:
            async with asyncio.timeout(self._seconds), AsyncExitStack() as place:
                await self._take(place, context, caller, call)
                waiting = False
                data = await context.read()
                return None if data is grpc.aio.EOF else parse(data)
        except QueueFull as error:
            return UnparsedMessage(error)
        except TimeoutError:
            if waiting:
                return UnparsedMessage(QueueFull("too many messages are being read at once", retry_after=1.0))
            why = f"the message did not arrive within {self._seconds:g} s"
            return UnparsedMessage(DeadlineExceeded(why, reason="body_timeout"))

    async def _take(self, place: AsyncExitStack, context: Any, caller: str, call: ExitStack) -> None:
        turn = self._turns.turn(caller)
        if self._turns.is_free(caller):
            await place.enter_async_context(turn)
            return
        arrival = call.enter_context(self._half_sent.unread(context.peer()))
        if self._waiting >= self._half_sent.most_unread:
            raise QueueFull("too many messages wait to be read", retry_after=1.0)
        self._waiting += 1
        try:
            await arrival.wait(lambda: place.enter_async_context(turn))
        finally:
            self._waiting -= 1
        call.close()


def reading_places(settings: Settings) -> int:
    """Return how many messages may be read at once."""
    return max(1, settings.inflight_bytes // (MESSAGE_PARTS * settings.message_bytes))


def half_sent_bytes(settings: Settings) -> int:
    """Return the most bytes of messages that are not whole, outside of the places to read in.

    What arrives in places, and the copies of one message that has arrived, take the rest of the budget.
    """
    return settings.inflight_bytes - (reading_places(settings) + MESSAGE_COPIES - 1) * settings.message_bytes


class ReadingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Puts itself between gRPC and every method's handler."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self.last_call = -math.inf  #: when one came last, on the loop's clock, seconds
        settings = state.settings
        self._half_sent = HalfSentMessages(half_sent_bytes(settings), settings.message_bytes)
        self._messages = ReadingPlaces(reading_places(settings), settings.body_timeout_s, self._half_sent)
        self._health = ReadingPlaces(OPEN_PLACES, OPEN_SECONDS, self._half_sent)
        self._reflection = ReadingPlaces(OPEN_PLACES // 2, OPEN_SECONDS, self._half_sent)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return a handler that reads for itself, in the place of one that is given what was read."""
        self.last_call = asyncio.get_running_loop().time()
        handler = await continuation(details)
        if handler is None:
            return None
        parse = lenient_parser(handler.request_deserializer or bytes)
        serve = self._many(handler, details) if handler.request_streaming else self._one(handler, details, parse)
        if serve is None:  # a stream of ours: it reads when it has room, and checks the key before
            serve = self._stream(handler.stream_stream, parse)
        return grpc.stream_stream_rpc_method_handler(
            serve, request_deserializer=None, response_serializer=handler.response_serializer
        )

    def _one(self, handler: Any, details: Any, parse: Callable[[bytes], Any]) -> Callable[[Any, Any], Awaitable[None]]:
        """Serve one message; `handler` returns the answer, or writes as many as it likes."""
        reading = self._health if details.method.startswith(HEALTH) else self._messages
        behaviour = handler.unary_stream or handler.unary_unary

        async def serve(_: Any, context: Any) -> None:
            ending = CallEnding()
            with self._state.budget.open() as holding, ExitStack() as call:
                _holding.set(holding)
                _ending.set(ending)
                try:
                    # No name for the message: `behaviour` alone holds it, and may let go of it before its answer.
                    message = self._message(details.method, reading, context, parse, holding, call)
                    answer = await behaviour(await message, context)
                except BaseException as error:
                    _forget_frames(error)
                    raise
                if handler.unary_unary is not None:
                    holding.settle(max(holding.nbytes, answer.ByteSize()) if hasattr(answer, "ByteSize") else 0)
                    with ending.writing():
                        await context.write(answer)  # back when the transport has taken it

        return serve

    async def _message(
        self,
        method: str,
        reading: ReadingPlaces,
        context: Any,
        parse: Callable[[bytes], Any],
        holding: ByteHolding,
        call: ExitStack,
    ) -> Any:
        """Read the call's message, or why there is none; unread where the policy refuses the call anyway."""
        caller = ""
        if reading is not self._health:
            try:
                decision = await decision_of_call(self._state, context, method.rpartition("/")[2])
            except Unauthenticated as error:
                return UnparsedMessage(error)
            _decision.set(decision)
            if decision.refusal is not None:
                return UnparsedMessage(decision.refusal)
            caller = decision.client
        parse_counted, peer = _counted(parse, holding), context.peer()

        def arrived(data: bytes) -> Any:
            self._half_sent.whole(peer, len(data))
            return parse_counted(data)

        message = await reading.next(context, caller or _host(context), arrived, call)
        if message is None:
            await asyncio.sleep(LEAVING_S)  # as at a stream's end: who has left sent no wrong call
            return UnparsedMessage(InvalidRequest("the call ended before its message"))
        return message

    def _many(self, handler: Any, details: Any) -> Callable[[Any, Any], Awaitable[None]] | None:
        """Serve reflection: a stream that needs no key, so each of its messages is read in a place of its own."""
        if not details.method.startswith(REFLECTION):
            return None

        async def serve(_: Any, context: Any) -> None:
            with ExitStack() as call:

                async def messages() -> AsyncIterator[Any]:
                    parse = lenient_parser(handler.request_deserializer)
                    while (message := await self._reflection.next(context, _host(context), parse, call)) is not None:
                        if isinstance(message, UnparsedMessage):
                            return
                        yield message

                async for answer in handler.stream_stream(messages(), context):
                    await context.write(answer)

        return serve

    def _stream(self, behaviour: Any, parse: Callable[[bytes], Any]) -> Callable[[Any, Any], Awaitable[None]]:
        """Serve a stream whose last message counts until the next one is asked for."""

        async def serve(requests: Any, context: Any) -> None:
            peer = context.peer()
            # Until the call has ended: one that is refused may send until its client knows.
            with self._half_sent.stream(peer) as arrival, self._state.budget.open() as holding:
                parse_counted = _counted(parse, holding)

                async def messages() -> AsyncIterator[Any]:
                    while (data := await arrival.wait(lambda: anext(requests, None))) is not None:
                        holding.settle(0)
                        self._half_sent.whole(peer, len(data), arrival)
                        message = parse_counted(data)
                        del data  # or it would be there, uncounted, beside what was parsed from it
                        yield message
                        del message
                    # Who has left is cancelled here, and is not taken for one who has sent all and read all.
                    await asyncio.sleep(LEAVING_S)

                await behaviour(messages(), context)

        return serve


def _counted(parse: Callable[[bytes], Any], holding: ByteHolding) -> Callable[[bytes], Any]:
    """Parse as `parse`, but reserve the message's bytes before; UnparsedMessage where there is no room for them."""

    def reserve_and_parse(data: bytes) -> Any:
        try:
            holding.grow(len(data))
        except QueueFull as error:
            return UnparsedMessage(error)
        return parse(data)

    return reserve_and_parse


def _forget_frames(error: BaseException) -> None:
    """Let go of the frames in its traceback, and of what they hold.

    gRPC keeps the error of an aborted call in a cycle with the call, and its whole message until garbage is collected.
    Frames are not cleared: the engine may have raised one error for several requests, and one that waits would end.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__


def peer_address(peer: object) -> str:
    """Read the address in gRPC's name for a peer, such as "ipv4:127.0.0.1:5" or "ipv6:%5B::1%5D:5"; "" in others."""
    kind, _, rest = str(peer).partition(":")
    return unquote(rest.rpartition(":")[0]).strip("[]") if kind in ("ipv4", "ipv6") else ""


def _host(context: Any) -> str:
    """Return whom the caller's address counts as."""
    return caller_of(peer_address(context.peer()))
