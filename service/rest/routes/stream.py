"""GET /v1/stream: a live stream over WebSocket, for browsers; the same session as gRPC's.

A client sends `{"type": "start", ...}` first if defaults do not do, then frames, each as one binary message: four
bytes, little-endian, the length of a JSON header; the header; the picture. `{"type": "reset"}` says that the next frame
has no predecessor, `{"type": "end"}` that no more come. Predictions come back as binary messages of the same form, the
header telling each picture's length; everything else as JSON text. After the last answer the socket closes with 1000.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.app_state import AppState
from service.core.errors import Cancelled, Internal, InvalidRequest, NotFound, PermissionDenied, ServiceError
from service.imaging.codec import ImageFormat
from service.rest.formats import stream_messages
from service.rest.transport import context
from service.rest.transport.bounded_socket import REFUSED
from service.rest.transport.errors import problem
from service.rest.transport.origins import is_allowed
from service.serving.streaming.concealed_stream import ConcealedStream
from service.serving.streaming.live_stream import LiveStream
from service.serving.streaming.messages import Draining, Incoming, InvalidMessage, StreamRequest
from service.serving.streaming.opening import opening, traced
from service.serving.streaming.session import Answer
from service.serving.streaming.stream_kinds import open_stream
from service.telemetry.metrics import Transport

log = logging.getLogger("service.rest")

#: Close codes of RFC 6455: as asked, refused by policy, our fault, try again later.
NORMAL, POLICY, FAILED, LATER = 1000, 1008, 1011, 1013
#: Those of clients that close in good order: at their end, leaving a page, without a reason. 1006: without closing,
#: but uvicorn may say 1005 then, so that what tells is whether answers are owed.
CLOSED_IN_ORDER, NO_CLOSE = (1000, 1001, 1005), 1006
#: Ours, when the grace of a stop is over.
RESTARTING = 1012
#: Name of the client's close code in the log.
CLOSE_CODE = "close_code"
_CLOSE = {"queue_full": LATER, "client_limit": LATER, "rate_limited": LATER, "unavailable": LATER, "internal": FAILED}


def router(state: AppState) -> APIRouter:
    """Build the route of live streams."""
    routes = APIRouter(tags=["predict"])

    @routes.get("/v1/stream", include_in_schema=False)
    async def no_socket() -> Response:
        raise InvalidRequest("a stream is a WebSocket; open it as one, with Upgrade: websocket", field="Upgrade")

    @routes.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        if not is_allowed(socket, state.settings.cors_origins):
            await _deny(socket, PermissionDenied("this page's origin may not open streams here", field="Origin"))
            return
        is_offered = stream_messages.SUBPROTOCOL in socket.scope.get("subprotocols", ())
        await socket.accept(stream_messages.SUBPROTOCOL if is_offered else None)
        await _serve(state, socket)

    @routes.websocket("/{path:path}")
    async def no_stream(socket: WebSocket) -> None:
        await _deny(socket, NotFound("there is no WebSocket at this path; streams are at /v1/stream"))

    return routes


async def _deny(socket: WebSocket, error: ServiceError) -> None:
    """Refuse the handshake, in the form of all errors over HTTP."""
    request_context = context.of(socket)
    request_context.code = error.code
    await socket.send_denial_response(problem(error, request_context.request_id))


async def _serve(state: AppState, socket: WebSocket) -> None:
    request_context = context.of(socket)
    try:
        first = await opening(state, request_context.client, _receive(socket))
        if isinstance(first, Draining):
            await socket.send_text(str(stream_messages.answer(first)))
            await socket.close(NORMAL)
            return
        is_over = first is None or _is_end(first)
        request, first_message = _opened(state, None if is_over else first)
        live = open_stream(
            state,
            request.opened_by(request_context),
            Transport.WEBSOCKET,
            client=request_context.client,
            identity=request_context.request_id,
        )
        try:
            await _answer(state, socket, live, _rest(socket, first_message, is_over=is_over))
        except WebSocketDisconnect:
            # Who closes in good order and has every answer has what it wanted; others are cut off from something.
            if live.is_answered and request_context.notes.get(CLOSE_CODE) in CLOSED_IN_ORDER:
                return
            if request_context.notes.get(CLOSE_CODE) == RESTARTING and not live.is_answered:
                raise Internal("the server stopped before every answer was sent") from None
            raise
        finally:
            request_context.notes.update(live.counts)
        await socket.close(NORMAL)
    except WebSocketDisconnect:
        request_context.code = Cancelled.code
    except ServiceError as error:
        request_context.code, request_context.reason = error.code, error.reason
        await _refuse(socket, error)
    except Exception:
        request_context.code = "internal"
        log.exception("a stream failed", extra={"request_id": request_context.request_id})
        await _close(socket, FAILED, f"internal error; request {request_context.request_id}")


async def _answer(
    state: AppState, socket: WebSocket, live: LiveStream | ConcealedStream, incoming: AsyncIterator[Incoming]
) -> None:
    request_context = context.of(socket)
    async with aclosing(live.answers(incoming)) as answers:
        async for answer in answers:
            message = stream_messages.answer(answer)
            await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
            if isinstance(answer, Answer):
                traced(request_context.tracer, request_context.trace, answer, state.clock())


def _opened(state: AppState, first: str | bytes | None) -> tuple[StreamRequest, Incoming | None]:
    """Read what the stream is to be, and the first message if it was no `start`."""
    if first is None:
        return StreamRequest(), None
    settings = state.settings
    request = stream_messages.start(first, max_steps=settings.max_steps, max_deadline_ms=settings.max_deadline_ms)
    return (request, None) if request is not None else (StreamRequest(format=ImageFormat.JPEG), _incoming(first))


def _incoming(message: str | bytes) -> Incoming:
    try:
        return stream_messages.incoming(message)
    except ServiceError as error:
        return InvalidMessage(error)


async def _rest(socket: WebSocket, first_message: Incoming | None, *, is_over: bool) -> AsyncIterator[Incoming]:
    if first_message is not None:
        yield first_message
    while not is_over:
        message = await _receive(socket)
        if message is None:
            # Nobody is there to read the answers: what is under way is withdrawn.
            raise WebSocketDisconnect
        if _is_end(message):
            return
        yield _incoming(message)


def _is_end(message: str | bytes) -> bool:
    try:
        return stream_messages.is_end(message)
    except ServiceError:
        return False  # not JSON: answered as a message that means nothing


async def _receive(socket: WebSocket) -> str | bytes | None:
    """Receive the next message; None when the client has closed. Raises why its connection takes no more of them."""
    message = await socket.receive()
    if REFUSED in message:
        raise message[REFUSED]
    if message["type"] == "websocket.disconnect":
        context.of(socket).notes[CLOSE_CODE] = message.get("code", NO_CLOSE)
        return None
    text, data = message.get("text"), message.get("bytes")
    content = text if text is not None else data
    return content if isinstance(content, str | bytes) else b""


async def _refuse(socket: WebSocket, error: ServiceError) -> None:
    """Send the error as a last message, then the close code that fits it."""
    try:
        await socket.send_text(stream_messages.refusal(error))
    except (WebSocketDisconnect, RuntimeError):
        return  # already closed
    await _close(socket, _CLOSE.get(error.code, POLICY), error.code)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    try:
        await socket.close(code, reason)
    except (WebSocketDisconnect, RuntimeError):
        return  # already closed
