"""Receives a connection's replies for redis-py, frames among them, straight into the memory that they will have.

redis-py's own parser reads through an asyncio stream, which holds 64 KiB and stops the socket when it has more: two
frames of 344 KB stop it and wake it a dozen times. What redis-py does with a connection beside that stays its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis

# A connection takes another parser (`parser_class`) but asks whether it is of this kind; no public module has it.
from redis._parsers import _AsyncRESP3Parser

from service.distributed.broker.reply_reader import ProtocolBroken, Push, ReplyReader

CLOSED = "Connection closed by server."


class ReplyReceiver(asyncio.BufferedProtocol):
    """Takes over from a stream's protocol what comes; hands on to it what is about sending, and the end."""

    def __init__(self, sender: asyncio.Protocol, replies: ReplyReader) -> None:
        self._sender, self._reader = sender, replies
        self._end: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more will come."""
        return self._end is not None

    async def reply(self) -> Any:
        """Wait for the next reply; redis.ConnectionError where the connection ends first."""
        while not self._reader.replies:
            if self._end is not None:
                raise self._end
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._reader.replies.popleft()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Read the bytes that came; what comes behind what is no reply is nobody's."""
        if self._end is not None:
            return
        try:
            self._reader.advance(nbytes)
        except ProtocolBroken as error:
            self._ended(redis.InvalidResponse(f"Protocol Error: {error}"))
        if self._reader.replies:
            self._wake()

    def eof_received(self) -> bool | None:
        """End, as the server ended its side."""
        self._ended(redis.ConnectionError(CLOSED))
        return self._sender.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and end what is being sent."""
        self._ended(redis.ConnectionError(CLOSED if exc is None else f"Connection lost: {exc}"))
        self._sender.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold up whoever sends."""
        self._sender.pause_writing()

    def resume_writing(self) -> None:
        """Let whoever sends go on."""
        self._sender.resume_writing()

    def _ended(self, error: Exception) -> None:
        if self._end is None:
            self._end = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class FrameParser(_AsyncRESP3Parser):
    """A parser for redis-py's asyncio connections, `parser_class`; RESP 2 as well."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)  # type: ignore[no-untyped-call]  # redis-py's parsers have no annotations
        self._replies = ReplyReader(self.parse_error)
        self._receiver: ReplyReceiver | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._early: asyncio.StreamReader | None = None

    def on_connect(self, connection: Any) -> None:
        """Take over what comes on a connection that was opened just now."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._replies = ReplyReader(self.parse_error)
        self._writer = connection._writer
        transport = connection._writer.transport
        self._receiver = ReplyReceiver(transport.get_protocol(), self._replies)
        transport.set_protocol(self._receiver)
        # What the stream may have received before can be read without waiting, once it has an end.
        self._early = connection._reader
        self._early.feed_eof()

    def on_disconnect(self) -> None:
        """Forget the connection."""
        super().on_disconnect()  # type: ignore[no-untyped-call]
        self._receiver = self._writer = None

    @property
    def is_at_rest(self) -> bool:
        """Tell whether commands may be sent: connected, and nothing unread that belongs to others."""
        receiver, writer = self._receiver, self._writer
        if receiver is None or writer is None or receiver.has_ended or writer.transport.is_closing():
            return False
        return not self._replies.replies and not self._replies.is_amid

    @property
    def must_wait(self) -> bool:
        """Tell whether the next reply is yet to come."""
        return not self._replies.replies

    async def send(self, pieces: Sequence[bytes]) -> bool:
        """Send `pieces`, and wait where they are more than a connection holds; tell whether it waited."""
        if (writer := self._writer) is None or writer.transport.is_closing():
            raise redis.ConnectionError(CLOSED)
        writer.writelines(pieces)
        if not writer.transport.get_write_buffer_size():
            return False
        await writer.drain()
        return True

    async def can_read(self) -> bool:
        """Tell whether there is anything unread, or the connection has ended: it is then of no more use."""
        if self._receiver is None:
            raise OSError("Buffer is closed.")
        await self._take_early()
        return not self.is_at_rest

    async def can_read_destructive(self) -> bool:
        """Tell what `can_read` does, under the name that redis-py had for it before."""
        return await self.can_read()

    async def read_response(self, disable_decoding: bool = False, push_request: bool | None = False) -> Any:
        """Wait for the next reply; an error that the server answers is returned, one that ends a connection raised."""
        if self._early is not None:
            await self._take_early()
        while True:
            if (receiver := self._receiver) is None:
                raise redis.ConnectionError(CLOSED)
            reply = self._replies.replies.popleft() if self._replies.replies else await receiver.reply()
            if isinstance(reply, redis.ConnectionError):
                raise reply
            if not isinstance(reply, Push):
                return reply
            answer = await self.handle_push_response(list(reply))  # type: ignore[no-untyped-call]
            if push_request:
                return answer

    async def _take_early(self) -> None:
        if (stream := self._early) is None:
            return
        self._early = None
        data = memoryview(await stream.read())
        while data:
            room = self._replies.room()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self._replies.advance(count)
            data = data[count:]
