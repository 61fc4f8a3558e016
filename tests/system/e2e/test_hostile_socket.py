"""WebSocket messages without end: cut off at the limit, and nobody else notices."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.e2e.joined import joined

LIMIT = 200_000
#: RFC 6455's close code for a message that is too big.
TOO_BIG = 1009


async def whole(socket: ClientConnection) -> None:
    """One message above the limit."""
    await socket.send(bytes(3 * LIMIT))


async def in_parts(socket: ClientConnection) -> None:
    """A message of small parts, the last of which never comes."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    await socket.send(parts())


@pytest.mark.parametrize("send", [whole, in_parts])
async def test_a_message_without_end_is_cut_off(send: Callable[[ClientConnection], Awaitable[None]]) -> None:
    async with joined(max_body_bytes=LIMIT) as service:
        async with connect(f"{service.http.replace('http', 'ws')}/v1/stream") as socket:
            with contextlib.suppress(ConnectionClosed):
                await send(socket)
                await socket.recv()
            code = socket.close_code
        async with httpx.AsyncClient(base_url=service.http) as http:
            assert (await http.get("/v1/model")).status_code == 200
    assert code == TOO_BIG
