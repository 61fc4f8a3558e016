"""The lightest HTTP/1.1 client that can measure: requests built in advance, connections kept, bodies not parsed.

A benchmark's client shares the machine with what it measures; this one spends a fraction of a millisecond a request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, a whole body, and headers by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A whole request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def post(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The same for a POST."""
    return request("POST", path, headers, body)


class _Incoming:
    """An answer on its way in; the parser's callbacks."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._headers: dict[str, str] = {}
        self.whole = False
        self.keeps = False  #: the server keeps the connection

    def feed(self, data: bytes) -> None:
        """More of it."""
        self._parser.feed_data(data)

    def reply(self) -> Reply:
        """All of it."""
        return Reply(self._parser.get_status_code(), b"".join(self._chunks), self._headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.whole, self.keeps = True, self._parser.should_keep_alive()


class Caller:
    """One blocking connection, for one request after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> Reply:
        """The answer to a request built by `post`."""
        self._socket.sendall(request)
        incoming = _Incoming()
        while not incoming.whole:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server hung up before its answer was whole")
            incoming.feed(data)
        return incoming.reply()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time; `open` says whether it can carry another."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport
        self._incoming = _Incoming()
        self._reply: asyncio.Future[Reply] | None = None

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        """The answer to come to a request, whole or not; ConnectionError where the server hangs up instead."""
        self._incoming = _Incoming()
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._reply

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def abort(self) -> None:
        """Hang up without a word, whatever is still to be sent."""
        self._reply = None  # nobody waits for it any more
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport, self.open = cast("asyncio.Transport", transport), True

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._incoming.feed(data)
        if self._incoming.whole and self._reply is not None and not self._reply.done():
            # A server may announce that it hangs up after this answer; whoever asked next would be lost with it.
            self.open = self.open and self._incoming.keeps
            self._reply.set_result(self._incoming.reply())

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self.open = False
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("the server hung up before its answer was whole"))


class Pool:
    """Connections to one server: as many as there are exchanges at once, used again afterwards."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []

    async def take(self) -> Connection:
        """An idle connection, else a new one, for the caller alone."""
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

    async def exchange(self, request: bytes) -> Reply:
        """The answer to a whole request; OSError where there is none."""
        return await self.over(await self.take(), request)

    async def over(self, connection: Connection, request: bytes) -> Reply:
        """The same over a connection taken before, kept afterwards where it can be."""
        try:
            reply = await connection.send(request)
        except BaseException:
            connection.close()  # whoever came next would get this one's late answer
            raise
        if connection.open:
            self._idle.append(connection)
        return reply

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self._idle:
            connection.close()
