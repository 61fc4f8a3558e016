"""The small service behind a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from service.rest.transport.bounded_protocol import BoundedProtocol
from service.settings import Settings
from tests.unit.rest.small import Small, running


class PatientProtocol(BoundedProtocol):
    """The same bounds, late enough for a client of a busy machine."""

    max_head = 8192
    head_seconds = 60.0
    stall_seconds = 120.0


class QuickProtocol(PatientProtocol):
    """The same bounds, soon enough for a test of them."""

    head_seconds = 0.2
    stall_seconds = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection, spoken to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(head[0].split()[1]), headers, body)

    async def closed(self) -> bool:
        """Whether the server ends the connection (within a minute)."""
        try:
            async with asyncio.timeout(60):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def leave(self) -> None:
        """Without a word."""
        self.writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Wired:
    """A service with a port."""

    small: Small
    port: int
    server: uvicorn.Server

    @asynccontextmanager
    async def connect(self, *, receive_buffer: int = 0) -> AsyncIterator[Wire]:
        """`receive_buffer`: bytes that the client's kernel takes before they are read; 0: as many as it likes."""
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def wired(
    settings: Settings | None = None, protocol: type[BoundedProtocol] = PatientProtocol, *, send_buffer: int = 0
) -> AsyncIterator[Wired]:
    """A small service on a free port for the length of a test.

    `send_buffer`: bytes that its kernel takes of an answer before they are read; 0: as many as it likes.
    """
    async with running(settings) as small:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            if send_buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            config = uvicorn.Config(
                small.app, http=protocol, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
            )
            server = uvicorn.Server(config)
            # Not serve(): it would take the test run's signal handlers.
            serving = asyncio.ensure_future(server._serve([listener]))
            await until(lambda: server.started)
            yield Wired(small, listener.getsockname()[1], server)
            server.should_exit = True
            await serving


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait for a condition; TimeoutError where it does not come."""
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.002)
