"""Bounds what uvicorn leaves open on a WebSocket: half-sent messages, and what its client does not read.

`bounded_protocol` bounds the handshake; what whole messages mean is bounded by the stream. `http_server` hands this
class to uvicorn as `ws=`.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections import deque
from typing import Any, ClassVar, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from service.core.errors import DeadlineExceeded, InvalidRequest, QueueFull, ServiceError, TooLarge
from service.rest.transport.errors import last_answer
from service.rest.transport.reader_watch import ReaderWatch
from service.serving.byte_budget import ByteBudget

#: Member of a received ASGI message that holds a ServiceError: why no message of the client comes any more.
REFUSED = "dmvfn.refused"
#: First byte of a whole pong (RFC 6455, 5.2).
_PONG = 0x8A
#: Bytes that are parsed before a bound is looked at: what they hold of empty frames takes some 30 ms.
_PIECE = 16 * 1024


class BoundedSocket(WebSocketsSansIOProtocol):
    """One WebSocket. Messages that the stream has not taken count in `budget`, each is whole within `message_seconds`.

    A client that breaks a bound is heard no more; the stream receives the error and ends in its own way.
    """

    #: Pieces of one message.
    max_pieces: ClassVar[int] = 4096
    #: Pings and pongs that come at once.
    max_pings: ClassVar[int] = 64
    #: Seconds in which a client for which something waits must read some of it.
    stall_seconds: ClassVar[float] = 30.0
    #: Bytes of a client's messages that are not counted: a live frame as JPEG.
    free_bytes: ClassVar[int] = 2**20

    def __init__(self, budget: ByteBudget, message_seconds: float, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._holding = budget.open()
        self._message_seconds = message_seconds
        self._message_timer: asyncio.TimerHandle | None = None
        self._untaken: deque[int] = deque()  #: bytes of each whole message that the stream has not received
        self._half_sent = 0  #: bytes of the pieces of the message that is not whole
        self._is_deaf = False
        self._unparsed: bytes | memoryview = b""
        self._pings = 0  #: with pongs, of what has come at once
        self._pong = b""  #: the last ping's, not yet sent

    def connection_made(self, transport: BaseTransport) -> None:
        """Take over the connection. Whatever the client has not read makes the stream wait, and is watched."""
        transport = cast(asyncio.Transport, transport)
        self._reader_watch = ReaderWatch(transport, self.stall_seconds)
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what the connection holds."""
        self._reader_watch.stop()
        self._cancel_message_timer()
        self._holding.release()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch the client, which reads more slowly than we answer."""
        super().pause_writing()
        self._reader_watch.start()

    def resume_writing(self) -> None:
        """Stop watching the client, and answer its last ping."""
        self._reader_watch.stop()
        super().resume_writing()
        self._send_pong()

    def data_received(self, data: bytes) -> None:
        """Take what arrived, as far as the stream takes it, and count the rest."""
        if not self._is_deaf:
            self._unparsed = b"".join((self._unparsed, data)) if self._unparsed else data
            self._pings = 0
            self._parse()
        if not (self.handshake_initiated or self.transport.is_closing()):  # the head came whole, from uvicorn's HTTP
            why = f"a handshake's head may have {MAX_NUM_HEADERS} fields, and no line above {MAX_LINE_LENGTH} bytes"
            self.transport.write(last_answer(431, why))
            self.transport.close()

    def _parse(self) -> None:
        """Parse what arrived until a message waits for the stream, which reads on: thousands may fit in one piece."""
        rest = memoryview(self._unparsed)
        while rest and not (self._is_deaf or self.read_paused or self.transport.is_closing()):
            piece, rest = rest[:_PIECE], rest[_PIECE:]
            super().data_received(piece.tobytes())
        self._unparsed = b"" if self._is_deaf else rest
        self._send_pong()
        self._count()

    def handle_pong(self, event: Frame) -> None:
        """Take the answer to a ping of ours, or one that nobody asked for."""
        super().handle_pong(event)
        self._check_pings()

    def handle_ping(self) -> None:
        """Note the answer to a ping: where several wait, or the client does not read, one is owed (RFC 6455, 5.5.3)."""
        self._check_pings()
        for output in self.conn.data_to_send():
            if output[0] == _PONG:
                self._pong = output
            else:
                self.transport.write(output)

    def handle_close(self, event: Frame) -> None:
        """Answer pings before the close."""
        self._send_pong()
        super().handle_close(event)

    def handle_text(self, event: Frame) -> None:
        """Take a text, or its first piece."""
        self._half_sent = len(event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Take a binary message, or its first piece."""
        self._half_sent = len(event.data)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Take a further piece of a message."""
        self._half_sent += len(event.data)
        if len(self.frames) < self.max_pieces:
            super().handle_cont(event)
        else:
            self._refuse(TooLarge(f"a message may have at most {self.max_pieces} pieces"))

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to the stream; a text must be one, or its client is heard no more (RFC 6455, 8.1)."""
        self._cancel_message_timer()
        if self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self._refuse(InvalidRequest("a message of text is not UTF-8"))
            return
        if not (self.close_sent or self._is_deaf):
            self._untaken.append(self._half_sent)
        self._half_sent = 0
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        """Receive the next message; with REFUSED in it where none comes any more, though the client may still read."""
        message: Any = await super().receive()
        if message["type"] == "websocket.receive" and REFUSED not in message:
            self._untaken.popleft()
            self._parse()
        return message

    def _check_pings(self) -> None:
        self._pings += 1
        if self._pings > self.max_pings:
            self._refuse(InvalidRequest(f"more than {self.max_pings} pings came at once"))

    async def send(self, message: Any) -> None:
        """Send a message. An answer in the place of a handshake, once it is whole, completes that: uvicorn waits on."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def _send_pong(self) -> None:
        if self._pong and self.writable.is_set() and not self.transport.is_closing():
            self.transport.write(self._pong)
            self._pong = b""

    def _count(self) -> None:
        """Count bytes that the stream has not taken; time what is not whole, unless it is us who do not read on."""
        if self.transport.is_closing():
            return
        half_sent = self._half_sent + len(self.conn.reader.buffer) + len(self._unparsed)
        if self.close_sent and half_sent > _PIECE:  # told to go, it sends on: only its own close would matter
            self._ignore_rest()
            half_sent = 0
        nbytes = max(0, half_sent + sum(self._untaken) - self.free_bytes)
        try:
            if nbytes > self._holding.nbytes:
                self._holding.grow(nbytes - self._holding.nbytes)
            else:
                self._holding.settle(nbytes)
        except QueueFull as error:
            self._refuse(error)
            return
        if not half_sent or self.read_paused:
            self._cancel_message_timer()
        elif self._message_timer is None:
            self._message_timer = self.loop.call_later(self._message_seconds, self._message_is_late)

    def _message_is_late(self) -> None:
        why = f"a message did not arrive within {self._message_seconds:g} s"
        self._refuse(DeadlineExceeded(why, reason="body_timeout"))

    def _refuse(self, error: ServiceError) -> None:
        """Hear the client no more, and tell the stream why."""
        if not self._is_deaf:
            self._ignore_rest()
            refusal: Any = {"type": "websocket.receive", "text": "", REFUSED: error}
            self.queue.put_nowait(refusal)
            self._count()

    def _ignore_rest(self) -> None:
        """Read and forget what comes from now on: who cannot send does not read why."""
        self._is_deaf = True
        self._cancel_message_timer()
        self.frames, self._half_sent, self._unparsed = [], 0, b""
        self.conn.reader.buffer = bytearray()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _cancel_message_timer(self) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None


def _is_text(pieces: list[bytes]) -> bool:
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return True
