"""Answers to HTTP/1.0 whose length is not known when they begin: they end with the connection.

uvicorn sends such an answer in chunks, whatever was asked in. A client of HTTP/1.0 takes their lengths for content, so
that a server must not (RFC 9112, 6.1).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message

from service.rest.transport.answer_transport import AnswerTransport

#: Makes closing a socket reset its connection: on, and for no second.
_RESETTING = struct.pack("ii", 1, 0)


class UnframedTransport(AnswerTransport):
    """A connection for one answer to HTTP/1.0. Where it closes amid an answer that only its end would end, it resets.

    Else half a clip would be taken for a whole one.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport, loop)
        self.is_cut_by_closing = False

    def close(self) -> None:
        """End the connection once all has been written, or at once where that is not all of the answer."""
        if self.is_cut_by_closing:
            if (sock := self._transport.get_extra_info("socket")) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETTING)
            self._transport.abort()
        else:
            super().close()


class UnframedAnswer:
    """Sends an answer to HTTP/1.0 in the place of `cycle`, uvicorn's state of the request, and by it."""

    def __init__(self, cycle: Any, transport: UnframedTransport) -> None:
        self._cycle = cycle
        self._transport = transport
        self._send: Callable[[Message], Awaitable[None]] = cycle.send
        self._has_length = True

    async def send(self, message: Message) -> None:
        """Send a message. An answer without a Content-Length goes out as it is, in no chunks."""
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
                self._transport.is_cut_by_closing = True
        elif not self._has_length:
            # uvicorn takes no more bytes than were announced, and closes after the last of them.
            self._cycle.expected_content_length = len(message.get("body", b""))
            self._transport.is_cut_by_closing = message.get("more_body", False)
        await self._send(message)
