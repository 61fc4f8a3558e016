"""Requests that offer another protocol, which nobody takes, are answered like all others (RFC 9110, 7.8).

Java's HttpClient offers HTTP/2 with each request to an http:// address, and so does `curl --http2`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.rest.routes import stream
from tests.unit.imaging.pictures import Pixels
from tests.unit.rest.transport.test_bounded_protocol import HEAD, chunked
from tests.unit.rest.wired import wired

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
ASK = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n"


def _measured(content: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(content) + content


@pytest.mark.parametrize("pieces", [1, 50])
@pytest.mark.parametrize("frame", [_measured, lambda content: chunked(content, 4000)], ids=["measured", "chunked"])
async def test_a_body_behind_an_offer_is_read(
    frame: Callable[[bytes], bytes], pieces: int, previous: Pixels, current: Pixels
) -> None:
    """The answer is that to the same request without one, and the connection goes on."""
    content = previous.tobytes() + current.tobytes()
    head, _, body = (HEAD + OFFER + frame(content)).partition(b"\r\n\r\n")
    size = -(-len(body) // pieces)
    async with wired() as service, service.connect() as wire:
        await wire.send(HEAD + _measured(content))
        expected = await wire.answer()
        # The head alone: its offer is read before there is any body.
        await wire.send(head + b"\r\n\r\n")
        for start in range(0, len(body), size):
            await asyncio.sleep(0.002)
            await wire.send(body[start : start + size])
        offered = await wire.answer()
        assert (expected.status, offered.status, offered.body) == (200, 200, expected.body)
        await wire.send(ASK + b"\r\n")
        assert (await wire.answer()).status == 200


async def test_requests_sent_ahead_are_answered_in_order(previous: Pixels, current: Pixels) -> None:
    content = previous.tobytes() + current.tobytes()
    predict = HEAD + OFFER + _measured(content)
    async with wired() as service, service.connect() as wire:
        await wire.send(ASK + OFFER + b"\r\n" + predict + ASK + OFFER + b"\r\n" + predict + ASK + b"\r\n")
        answers = [await wire.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert answers[1].body == answers[3].body
    assert len(answers[1].body) == previous.nbytes
    assert answers[0].body == answers[2].body == answers[4].body


async def test_a_body_that_is_no_body_is_refused() -> None:
    async with wired() as service, service.connect() as wire:
        await wire.send(HEAD + OFFER + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n")
        assert (await wire.answer()).status == 400
        assert await wire.closed()


async def test_the_last_request_of_a_connection_may_offer(previous: Pixels, current: Pixels) -> None:
    content = previous.tobytes() + current.tobytes()
    last = OFFER.replace(b"Upgrade, ", b"close, Upgrade, ")
    async with wired() as service, service.connect() as wire:
        await wire.send(HEAD + last + _measured(content) + ASK + b"\r\n")
        assert (await wire.answer()).status == 200
        assert await wire.reader.read() == b""


async def test_a_body_is_never_read_as_a_request() -> None:
    """Whoever checked the head saw one request: what its body holds is none, whatever it looks like."""
    inner = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with wired() as service, service.connect() as wire:
        for framed in (_measured(inner), chunked(inner, 7)):
            await wire.send(b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\n" + OFFER + framed + ASK + b"\r\n")
            assert [(await wire.answer()).status for _ in range(2)] == [404, 200]


async def test_fields_behind_the_body_are_left_out(previous: Pixels, current: Pixels) -> None:
    """As without an offer: a trailer that looks like another answer's format changes nothing."""
    content = previous.tobytes() + current.tobytes()
    body = chunked(content, 4000).removesuffix(b"\r\n") + b"Accept: image/png\r\n\r\n"
    async with wired() as service, service.connect() as wire:
        await wire.send(HEAD + OFFER + body)
        answer = await wire.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")


@pytest.mark.parametrize(
    "connection",
    [
        b"Connection: Upgrade\r\nConnection: keep-alive\r\n",
        b"Connection: keep-alive\r\nConnection: Upgrade\r\n",
        b"Connection: keep-alive, Upgrade\r\n",
    ],
)
async def test_a_websocket_is_opened_however_connection_is_written(connection: bytes) -> None:
    """A list may stand in several fields (RFC 9110, 5.3); one that named other things last hid the wish."""
    handshake = (
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with wired() as service:
        service.small.app.include_router(stream.router(service.small.parts))
        async with service.connect() as wire:
            await wire.send(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n" + connection + handshake)
            assert await wire.reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
