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
from dataclasses import replace
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.app_state import AppState
from service.core.errors import ServiceError
from service.imaging.codec import ImageFormat
from service.rest.formats import stream_messages
from service.rest.transport import context
from service.serving.streaming.live_stream import (
    Draining,
    Incoming,
    InvalidMessage,
    LiveStream,
    StreamRequest,
    opening,
    traced,
)
from service.serving.streaming.session import Answer
from service.telemetry.metrics import Transport

log = logging.getLogger("service.rest")

#: The subprotocol; browsers that offer any must be answered with one they offered.
SUBPROTOCOL = "dmvfn.v1"
#: Close codes of RFC 6455: as asked, refused by policy, our fault, try again later.
NORMAL, POLICY, FAILED, LATER = 1000, 1008, 1011, 1013
_CLOSE = {"queue_full": LATER, "client_limit": LATER, "unavailable": LATER, "internal": FAILED}


def router(parts: AppState) -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["predict"])

    @routes.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        if not _same_site(socket, parts.settings.cors_origins):
            await socket.close(POLICY, "this page's origin may not open streams here")
            return
        offered = SUBPROTOCOL in socket.scope.get("subprotocols", ())
        await socket.accept(SUBPROTOCOL if offered else None)
        await _serve(parts, socket)

    return routes


async def _serve(parts: AppState, socket: WebSocket) -> None:
    came = context.of(socket)
    try:
        first = await opening(parts, came.client, _receive(socket))
        if isinstance(first, Draining):
            await socket.send_text(str(stream_messages.answer(first)))
            await socket.close(NORMAL)
            return
        ended = first is None or _ends(first)
        request, pushed = _opened(parts, None if ended else first)
        live = LiveStream(
            parts,
            replace(request, traceparent=came.trace.traceparent),
            Transport.WEBSOCKET,
            client=came.client,
            identity=came.request_id,
        )
        try:
            await _answer(parts, socket, live, _rest(socket, pushed, ended=ended))
        finally:
            came.notes.update(live.counts)
        await socket.close(NORMAL)
    except WebSocketDisconnect:
        return
    except ServiceError as error:
        came.code = error.code
        await _refuse(socket, error)
    except Exception:
        came.code = "internal"
        log.exception("a stream failed", extra={"request_id": came.request_id})
        await _close(socket, FAILED, f"internal error; request {came.request_id}")


async def _answer(parts: AppState, socket: WebSocket, live: LiveStream, incoming: AsyncIterator[Incoming]) -> None:
    came = context.of(socket)
    async with aclosing(live.answers(incoming)) as answers:
        async for answer in answers:
            message = stream_messages.answer(answer)
            await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
            if isinstance(answer, Answer):
                traced(came.tracer, came.trace, answer, parts.clock())


def _opened(parts: AppState, first: str | bytes | None) -> tuple[StreamRequest, Incoming | None]:
    """What the stream is to be, and the first message if it was no `start`."""
    if first is None:
        return StreamRequest(), None
    settings = parts.settings
    asked = stream_messages.start(first, max_steps=settings.max_steps, max_deadline_ms=settings.max_deadline_ms)
    return (asked, None) if asked is not None else (StreamRequest(format=ImageFormat.JPEG), _incoming(first))


def _incoming(message: str | bytes) -> Incoming:
    try:
        return stream_messages.incoming(message)
    except ServiceError as error:
        return InvalidMessage(error)


async def _rest(socket: WebSocket, pushed: Incoming | None, *, ended: bool) -> AsyncIterator[Incoming]:
    if pushed is not None:
        yield pushed
    while not ended:
        message = await _receive(socket)
        if message is None:
            # Nobody is there to read the answers: what is under way is withdrawn.
            raise WebSocketDisconnect
        if _ends(message):
            return
        yield _incoming(message)


def _ends(message: str | bytes) -> bool:
    try:
        return stream_messages.is_end(message)
    except ServiceError:
        return False  # not JSON: answered as a message that means nothing


async def _receive(socket: WebSocket) -> str | bytes | None:
    """The next message; None when the client has closed."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    text, data = message.get("text"), message.get("bytes")
    found = text if text is not None else data
    return found if isinstance(found, str | bytes) else b""


async def _refuse(socket: WebSocket, error: ServiceError) -> None:
    """The error as a last message, then the close code that fits it."""
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


def _same_site(socket: WebSocket, origins: tuple[str, ...]) -> bool:
    """Browsers let any page open a socket anywhere and say which page it was: only ours and those allowed may."""
    origin = socket.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    return urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower()
