"""Sends most of a gRPC message and then nothing, on many streams of one connection: HTTP/2 written by hand.

grpcio's own client sends whole messages only.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
ACK, END_HEADERS = 1, 4
INITIAL_WINDOW = 65_535
PIECE = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(path: str) -> bytes:
    """A call's header block: literals without indexing (RFC 7541, 6.2.2)."""
    pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
    pairs |= {"content-type": "application/grpc", "te": "trailers"}
    block = b""
    for name, value in pairs.items():
        assert max(len(name), len(value)) < 127
        block += b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return block


class HalfSender:
    """A connection whose calls each have sent all they may of a message that never ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next_stream = 1
        self._window: defaultdict[int, int] = defaultdict(lambda: INITIAL_WINDOW)
        self._unsent: dict[int, int] = {}
        self.sent: dict[int, int] = {}  #: bytes of each open call's message
        self.ended: set[int] = set()  #: calls that the server ended
        self.closed = False
        self.changed = asyncio.Event()
        writer.write(PREFACE + frame(SETTINGS, 0, 0))

    def begin(self, path: str, nbytes: int, sends: int) -> int:
        """Open a call, announce a message of `nbytes` and send `sends` of them as the server allows; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._writer.write(frame(HEADERS, END_HEADERS, stream, headers(path)))
        self._unsent[stream], self.sent[stream] = sends, -5
        self._send(stream, b"\0" + nbytes.to_bytes(4, "big"))
        return stream

    def _send(self, stream: int, payload: bytes) -> None:
        self._writer.write(frame(DATA, 0, stream, payload))
        self.sent[stream] += len(payload)
        self._window[stream] -= len(payload)
        self._window[0] -= len(payload)

    async def run(self) -> None:
        """Send and hear until the connection ends."""
        hearing = asyncio.create_task(self._hear())
        try:
            while not hearing.done():
                self.changed.clear()
                if not await self._send_all():
                    await self.changed.wait()
        except ConnectionError:
            pass
        finally:
            hearing.cancel()
            self.closed = True
            self.changed.set()

    async def _send_all(self) -> bool:
        progress = False
        for stream in list(self._unsent):
            size = min(PIECE, self._unsent[stream], self._window[stream], self._window[0])
            if size <= 0:
                continue
            self._send(stream, bytes(size))
            self._unsent[stream] -= size
            if not self._unsent[stream]:
                del self._unsent[stream]
            progress = True
        await self._writer.drain()
        return progress

    async def _hear(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            self.changed.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._window[stream] += int.from_bytes(payload, "big")
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == RST_STREAM or (kind == HEADERS and flags & 1):
            self.ended.add(stream)
            self._unsent.pop(stream, None)
            self.sent.pop(stream, None)

    @property
    def held(self) -> int:
        """What the server may hold of messages: bytes sent for calls that it has not ended."""
        return 0 if self.closed else sum(self.sent.values())

    @property
    def settled(self) -> bool:
        """Whether every call has sent what it was to, or was ended."""
        return self.closed or not self._unsent


@asynccontextmanager
async def half_sender(port: int) -> AsyncIterator[HalfSender]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sender = HalfSender(reader, writer)
    running = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        writer.close()
