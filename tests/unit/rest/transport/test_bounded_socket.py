"""A WebSocket's client that dawdles, floods or does not read: it costs bounded memory, and is told why it must go."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.rest.transport.bounded_socket import BoundedSocket
from tests.unit.rest.routes.test_stream import START, Live, _everything, _frame, live
from tests.unit.rest.wired import Wire, until
from tests.unit.rpc.small import picture

TEXT, BINARY, CONTINUED, PING = 1, 2, 0, 9
KEYS = (("anna", "correct-horse"),)
END = json.dumps({"type": "end"}).encode()


class CountingSocket(BoundedSocket):
    """The real one, which counts from the first byte and loses patience with a reader soon."""

    free_bytes = 0
    stall_seconds = 0.2


def frame(opcode: int, content: bytes = b"", *, nbytes: int | None = None, is_last: bool = True) -> bytes:
    """A client's frame, masked by zeros; `nbytes` where it announces another length than that of `content`."""
    nbytes = len(content) if nbytes is None else nbytes
    length = bytes((0x80 | nbytes,)) if nbytes < 126 else struct.pack("!BQ", 0xFF, nbytes)
    return bytes(((0x80 if is_last else 0) | opcode,)) + length + bytes(4) + content


@asynccontextmanager
async def connected(served: Live) -> AsyncIterator[Wire]:
    """A connection, spoken to byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(served.url).port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def opened(served: Live, *fields: str) -> AsyncIterator[Wire]:
    """A connection after the handshake."""
    async with connected(served) as wire:
        await wire.send(handshake(*fields))
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        yield wire


def handshake(*fields: str, path: str = "/v1/stream") -> bytes:
    lines = ["Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *fields, "", ""]
    return f"GET {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode()


async def told(wire: Wire) -> tuple[dict[str, Any], int]:
    """The last message, and the close code after it."""
    head = await wire.reader.readexactly(2)
    nbytes = head[1] if head[1] < 126 else struct.unpack("!H", await wire.reader.readexactly(2))[0]
    message = json.loads(await wire.reader.readexactly(nbytes))
    close = await wire.reader.readexactly(4)
    return message, struct.unpack("!H", close[2:])[0]


@contextmanager
def full(served: Live) -> Iterator[None]:
    """All that may be in flight is: another request holds it."""
    with served.parts.budget.open() as holding:
        holding.grow(served.parts.budget.limit)
        yield


async def test_half_a_message_counts_among_all_that_is_in_flight_until_its_client_leaves() -> None:
    async with live(protocol=CountingSocket) as served:
        async with opened(served) as wire:
            await wire.send(frame(BINARY, bytes(500_000), nbytes=1_000_000))
            await until(lambda: served.parts.budget.held >= 500_000)
        await until(lambda: served.parts.budget.held == 0)


async def test_a_message_that_the_stream_has_taken_counts_no_more() -> None:
    async with live(protocol=CountingSocket) as served, served.open() as socket:
        await socket.send(START)
        await socket.send(_frame(picture(0)))
        assert json.loads(await socket.recv())["type"] == "first"
        assert served.parts.budget.held == 0


async def test_half_a_message_without_room_is_refused_and_its_client_told_when_to_come_back() -> None:
    async with live(protocol=CountingSocket) as served:
        with full(served):
            async with opened(served) as wire:
                await wire.send(frame(BINARY, bytes(100), nbytes=1_000_000))
                message, code = await told(wire)
        await until(lambda: len(served.parts.streams) == 0)
        assert served.parts.budget.held == 0
    assert (message["type"], message["code"], code) == ("refused", "queue_full", 1013)
    assert message["retry_after_ms"] > 0


async def test_what_a_client_sends_after_its_refusal_is_not_held() -> None:
    """Whoever has no key could hold all that may be in flight."""
    async with live(protocol=CountingSocket, api_keys=KEYS) as served:
        async with opened(served, "Authorization: Bearer wrong") as wire:
            message, _ = await told(wire)
            [protocol] = served.server.server_state.connections
            await wire.send(frame(BINARY, bytes(5_000_000), nbytes=10_000_000))
            await until(lambda: getattr(protocol, "_is_deaf", False))
            await wire.send(bytes(1_000_000))
            assert served.parts.budget.held == 0
        assert message["code"] == "unauthenticated"


async def test_a_message_that_never_ends_is_refused_in_time() -> None:
    async with live(message_seconds=0.1) as served:
        async with opened(served) as wire:
            await wire.send(frame(TEXT, b"{", nbytes=100))
            message, code = await told(wire)
        assert (message["code"], message["reason"], code) == ("deadline_exceeded", "body_timeout", 1008)
        await until(lambda: len(served.parts.streams) == 0)


async def test_a_message_of_endless_pieces_is_refused() -> None:
    async with live() as served, opened(served) as wire:
        piece = frame(CONTINUED, is_last=False)
        await wire.send(frame(BINARY, is_last=False) + piece * (2 * BoundedSocket.max_pieces))
        message, code = await told(wire)
    assert (message["code"], code) == ("too_large", 1008)


@pytest.mark.parametrize("opening", [b"", frame(TEXT, START.encode())])
async def test_a_text_that_is_none_is_refused_without_an_error_of_ours(
    opening: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sent one wrote a traceback into the log, and was counted as one who had left."""
    async with live() as served:
        async with opened(served) as wire:
            await wire.send(opening + frame(TEXT, b'{"type":', is_last=False) + frame(CONTINUED, b"\xff"))
            message, code = await told(wire)
        assert (message["type"], message["code"], code) == ("refused", "invalid_request", 1008)
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]


async def test_a_flood_of_pings_is_refused_and_pings_are_answered() -> None:
    async with live() as served:
        async with opened(served) as wire:
            await wire.send(frame(PING) * 10_000)
            answered = 0
            while (await wire.reader.readexactly(2)) == b"\x8a\x00":
                answered += 1
        assert answered < BoundedSocket.max_pings
        async with served.open() as socket:
            await asyncio.wait_for(await socket.ping(), 60)
            await socket.send(END.decode())
            assert await _everything(socket) == ([], 1000)


async def test_pings_of_a_client_that_does_not_read_are_answered_once() -> None:
    """Each answer would be kept for it."""
    async with live() as served, opened(served) as wire:
        [protocol] = served.server.server_state.connections
        assert isinstance(protocol, BoundedSocket)
        protocol.pause_writing()  # as if its last answer was not read
        for k in range(100):
            await wire.send(frame(PING, b"%03d" % k))
            await until(partial(_owes, protocol, b"\x8a\x03%03d" % k))
        protocol.resume_writing()
        assert await wire.reader.readexactly(5) == b"\x8a\x03099"


def _owes(protocol: BoundedSocket, pong: bytes) -> bool:
    return protocol._pong == pong


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with live(protocol=CountingSocket) as served, opened(served) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        start = {"type": "start", "format": "raw", "policy": "all", "horizon": 16, "scene_cuts": False}
        await wire.send(frame(TEXT, json.dumps(start).encode()))
        for n in range(3):
            await wire.send(frame(BINARY, _frame(picture(n, 512, 512))))
        await until(lambda: len(served.parts.streams) == 1)
        await until(lambda: len(served.parts.streams) == 0 and not served.server.server_state.connections)
        assert served.parts.budget.held == 0


async def test_all_that_comes_at_once_is_answered_in_order() -> None:
    whole = [frame(BINARY, _frame(picture(n), str(n))) for n in range(3)]
    content = _frame(picture(3), "3")
    pieces = [frame(BINARY, content[:100], is_last=False), frame(CONTINUED, content[100:])]
    async with live() as served, served.open() as socket:
        at_once = [frame(TEXT, START.encode()), *whole, frame(PING), *pieces, frame(TEXT, END)]
        socket.transport.write(b"".join(at_once))
        answers, code = await _everything(socket)
    assert ([answer["frame_id"] for answer in answers], code) == (["0", "1", "2", "3"], 1000)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (["Cookie: " + 9000 * "a"], 431, "invalid_request"),
        ([f"X-{n}: a" for n in range(200)], 431, "invalid_request"),
        (["Host: evil.example"], 400, "invalid_request"),
        ([], 404, "not_found"),
    ],
)
async def test_a_refused_handshake_says_why(
    head: list[str], status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A head that is too long was never answered; the others were, without a word."""
    path = "/v1/streams" if status == 404 else "/v1/stream"
    async with live() as served, connected(served) as wire:
        await wire.send(handshake(*head, path=path))
        answer = await wire.answer()
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert await wire.closed()
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]
