"""Asks over kept HTTP connections, as cheaply as Python can: bytes made beforehand out, a status and a body in.

Knows nothing of what is asked. httpx costs about as much as the service it would measure.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and how long it took from the first byte sent, seconds. `status` 0: the connection broke."""

    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes

    @property
    def wait_ms(self) -> int | None:
        """How long a refusal says to wait, where header and body both say it."""
        if "retry-after" not in self.headers:
            return None
        found = json.loads(self.body).get("retry_after_ms")
        return found if isinstance(found, int) and found > 0 and int(self.headers["retry-after"]) > 0 else None


class Connection(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._reply: asyncio.Future[Reply] | None = None
        self._began = 0.0
        self._loop = asyncio.get_running_loop()
        self.open = False
        self.transport: asyncio.Transport

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        """The reply to a whole request."""
        self._reply, self._began = self._loop.create_future(), self._loop.time()
        self._got.clear()
        self.transport.write(request)
        return self._reply

    def leave(self) -> None:
        """Without a word."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to ask."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits gets a reply of status 0."""
        self.open = False
        self._finish(Reply(0, self._loop.time() - self._began, {}, b""))

    def data_received(self, data: bytes) -> None:
        """Complete once the body is as long as its header says."""
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        status, *lines = self._got[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(self._got) - end - 4 < int(headers["content-length"]):
            return
        if headers.get("connection") == "close":
            self.open = False
        body = bytes(self._got[end + 4 :])
        self._finish(Reply(int(status.split()[1]), self._loop.time() - self._began, headers, body))

    def _finish(self, reply: Reply) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)


class Connections:
    """As many connections as questions are open at once, kept for the next ones."""

    def __init__(self, address: str) -> None:
        """`address` is http://HOST:PORT."""
        host, _, port = address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._idle: list[Connection] = []

    async def ask(self, request: bytes) -> Reply:
        """Ask over a connection that is free."""
        connection = await self.take()
        reply = await connection.ask(request)
        if connection.open:
            self._idle.append(connection)
        else:
            connection.leave()
        return reply

    async def take(self) -> Connection:
        """A connection for the caller alone."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return made

    def close(self) -> None:
        """None is kept."""
        for connection in self._idle:
            connection.leave()
        self._idle.clear()


def request(path: str, body: bytes = b"", method: str = "POST", **headers: Any) -> bytes:
    """A whole HTTP/1.1 request; `_` in a header's name stands for a dash."""
    lines = [f"{method} {path} HTTP/1.1", "Host: soak", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
