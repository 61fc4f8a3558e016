"""Work lasts as long as its caller."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from service.core.errors import Cancelled, QueueFull
from service.rest.transport.disconnect import while_connected


class Line:
    """An ASGI `receive` whose client hangs up when told to."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()
        self.calls = 0

    async def receive(self) -> Message:
        self.calls += 1
        if self.calls == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}


async def test_work_that_ends_is_answered() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await while_connected(Line().receive, work()) == "done"


async def test_an_error_of_the_work_passes_through() -> None:
    async def work() -> None:
        raise QueueFull("full")

    with pytest.raises(QueueFull):
        await while_connected(Line().receive, work())


async def test_work_is_cancelled_when_the_client_leaves_and_over_before_the_call_returns() -> None:
    line, states = Line(), []

    async def work() -> None:
        states.append("running")
        line.hung_up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            states.append("over")

    with pytest.raises(Cancelled):
        await while_connected(line.receive, work())
    assert states == ["running", "over"]


async def test_cancelling_the_call_cancels_the_work() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    call = asyncio.ensure_future(while_connected(Line().receive, work()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert over.is_set()


async def test_nothing_is_left_running() -> None:
    async def work() -> int:
        return 1

    before = asyncio.all_tasks()
    for _ in range(10):
        await while_connected(Line().receive, work())
    assert asyncio.all_tasks() == before
