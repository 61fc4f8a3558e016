"""Bodies, bounded while they stream in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive

from service.core.errors import Cancelled, QueueFull, TooLarge
from service.rest.transport.body import BoundedBody, read
from service.rest.transport.errors import BodyTimeout
from service.serving.byte_budget import ByteBudget, ByteHolding


def stream(chunks: Iterable[bytes], *, ends: bool = True) -> Receive:
    """A client that sends these chunks, then ends its body or falls silent."""
    left = [*chunks]

    async def receive() -> Message:
        if not left and not ends:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left) or not ends}

    return receive


def bounded(
    receive: Receive, *, max_bytes: int = 100, seconds: float = 5, holding: ByteHolding | None = None
) -> BoundedBody:
    return BoundedBody(receive, max_bytes, seconds, holding or ByteBudget(1000).open())


async def body_of(receive: Receive) -> bytes:
    return await read(Request({"type": "http", "headers": []}, receive))


async def test_a_body_is_put_together() -> None:
    body = bounded(stream([b"one", b"two", b"", b"three"]))
    assert await body_of(body) == b"onetwothree"
    assert (body.seen, body.complete) == (11, True)


async def test_the_limit_is_met_exactly_and_not_passed() -> None:
    assert len(await body_of(bounded(stream([bytes(60), bytes(40)])))) == 100
    with pytest.raises(TooLarge, match="100 bytes"):
        await body_of(bounded(stream([bytes(60), bytes(41)])))


@pytest.mark.parametrize("length", ["101", "9" * 30])
def test_an_announced_excess_is_refused_unread(length: str) -> None:
    with pytest.raises(TooLarge):
        bounded(stream([])).announce(length)


@pytest.mark.parametrize("length", [None, "100", "", "abc", "-1", "²"])
def test_other_announcements_are_let_through(length: str | None) -> None:
    body = bounded(stream([]))
    body.announce(length)
    assert body.seen == 0


async def test_a_silent_sender_is_given_up() -> None:
    with pytest.raises(BodyTimeout, match=r"0\.01 s"):
        await body_of(bounded(stream([b"a"], ends=False), seconds=0.01))


async def test_all_bodies_together_are_bounded() -> None:
    budget = ByteBudget(150)
    first = budget.open()
    await body_of(bounded(stream([bytes(100)]), holding=first))
    with pytest.raises(QueueFull) as error, budget.open() as second:
        await body_of(bounded(stream([bytes(100)]), holding=second))
    assert error.value.retry_after
    first.release()
    assert budget.held == 0
    assert len(await body_of(bounded(stream([bytes(100)]), holding=budget.open()))) == 100


async def test_a_client_that_leaves_cancels() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    body = bounded(receive)
    with pytest.raises(Cancelled):
        await body_of(body)
    assert body.left


async def test_a_refused_sender_is_heard_out() -> None:
    body = bounded(stream([bytes(60)] * 50))
    with pytest.raises(TooLarge):
        await body_of(body)
    await body.drain()
    assert body.complete
