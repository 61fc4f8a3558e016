"""A request's body, bounded in bytes and in time while it streams in. Knows nothing of what it holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive

from service.core.errors import Cancelled, TooLarge, UnsupportedMedia
from service.rest.transport.errors import BodyTimeout
from service.serving.byte_budget import ByteHolding

#: How long a refused sender is listened to, seconds: closing at once would reset the connection under its last bytes,
#: and the reset can destroy the refusal before it is read.
LINGER = 2.0


class BoundedBody:
    """An ASGI `receive` that raises TooLarge, BodyTimeout or QueueFull instead of delivering without end."""

    def __init__(self, receive: Receive, max_bytes: int, seconds: float, holding: ByteHolding) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._holding = holding
        self._until: float | None = None
        self.seen = 0  #: bytes
        self.complete = False
        self.left = False  #: the client is gone

    def announce(self, content_length: str | None) -> None:
        """Refuse at once what says of itself that it is too large, before a byte is read."""
        length = (content_length or "0").encode("ascii", "replace")
        if length.isdigit() and int(length[:20]) > self._max_bytes:
            raise self._too_large()

    async def __call__(self) -> Message:
        """Receive the next message."""
        if self.complete or self.left:
            return await self._receive()
        try:
            async with self._rest_of_time():
                return await self._next()
        except TimeoutError:
            raise self._too_slow() from None

    async def whole(self) -> bytes:
        """Read the whole body, as `read`, under one time-out: most come in several pieces."""
        try:
            async with self._rest_of_time():
                return await _whole(self._next)
        except TimeoutError:
            raise self._too_slow() from None

    def _rest_of_time(self) -> asyncio.Timeout:
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        return asyncio.timeout_at(self._until)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.left = True
        elif message["type"] == "http.request":
            length = len(message.get("body", b""))
            self.seen += length
            self.complete = not message.get("more_body", False)
            if self.seen > self._max_bytes:
                raise self._too_large()
            if length:
                self._holding.grow(length)
        return message

    async def drain(self) -> None:
        """Take and forget what a refused sender still sends, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self.complete and not self.left:
                    message = await self._receive()
                    self.left = message["type"] == "http.disconnect"
                    self.complete = not self.left and not message.get("more_body", False)

    def _too_slow(self) -> BodyTimeout:
        return BodyTimeout(f"the body did not arrive within {self._seconds:g} s")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a request body may have at most {self._max_bytes} bytes")


def check_plain(request: Request, content: str) -> None:
    """Raise UnsupportedMedia if the body says that it is compressed. `content` is the noun for what it should hold."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia(f"compressed bodies are not read; {content} are small already", field="Content-Encoding")


def read(request: Request) -> Coroutine[Any, Any, bytes]:
    """Read the whole body; Cancelled where the client left on the way."""
    receive = request.receive
    return receive.whole() if isinstance(receive, BoundedBody) else _whole(receive)


async def _whole(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left before its body was complete")
        if body := message.get("body"):
            chunks.append(body)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
