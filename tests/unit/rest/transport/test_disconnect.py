"""Work lasts as long as its caller."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from starlette.types import Message

from service.core.errors import Cancelled, QueueFull
from service.rest.transport.disconnect import while_connected
from tests.unit.imaging.pictures import Pixels
from tests.unit.rest.small import Small
from tests.unit.rest.wired import until, wired


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

    assert await while_connected({}, Line().receive, work()) == "done"


async def test_an_error_of_the_work_passes_through() -> None:
    async def work() -> None:
        raise QueueFull("full")

    with pytest.raises(QueueFull):
        await while_connected({}, Line().receive, work())


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
        await while_connected({}, line.receive, work())
    assert states == ["running", "over"]


async def test_cancelling_the_call_cancels_the_work() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    call = asyncio.ensure_future(while_connected({}, Line().receive, work()))
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
        await while_connected({}, Line().receive, work())
    assert asyncio.all_tasks() == before


async def test_a_whole_request_needs_one_task_beside_its_own(small: Small, previous: Pixels, current: Pixels) -> None:
    """Each more costs turns of the loop that an idle service adds to every prediction."""
    tasks: list[str] = []

    def counting(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
        tasks.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **how)

    content = previous.tobytes() + current.tobytes()
    headers = {"X-Frame-Shape": "2,32,48,3", "Content-Type": "application/octet-stream"}
    headers["Accept"] = "application/octet-stream"
    asyncio.get_running_loop().set_task_factory(counting)
    try:
        answer = await small.http.post("/v1/predict", content=content, headers=headers)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert answer.status_code == 200
    assert tasks == ["_wait_until_left"]


async def test_a_client_that_leaves_while_the_call_is_cancelled_too_cancels_it() -> None:
    line = Line()

    async def work() -> None:
        line.hung_up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)

    call = asyncio.ensure_future(while_connected({}, line.receive, work()))
    await line.hung_up.wait()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()


async def test_work_that_minds_no_cancelling_leaves_nothing_to_cancel() -> None:
    line = Line()

    async def work() -> str:
        line.hung_up.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "done"

    assert await while_connected({}, line.receive, work()) == "done"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def predict_head(nbytes: int) -> bytes:
    """The head of a request for raw pixels by raw pixels."""
    return (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n"
        b"X-Frame-Shape: 2,32,48,3\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % nbytes
    )


async def test_behind_our_own_server_no_task_waits_for_a_client_to_leave(previous: Pixels, current: Pixels) -> None:
    tasks: list[str] = []

    def counting(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
        tasks.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **how)

    content = previous.tobytes() + current.tobytes()
    async with wired() as service, service.connect() as wire:
        asyncio.get_running_loop().set_task_factory(counting)
        try:
            await wire.send(predict_head(len(content)) + content)
            answer = await wire.answer()
        finally:
            asyncio.get_running_loop().set_task_factory(None)
    assert answer.status == 200
    assert tasks == ["RequestResponseCycle.run_asgi"]


@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_a_client_that_leaves_withdraws_its_request_and_what_stands_behind_it(
    is_pipelined: bool, previous: Pixels, current: Pixels
) -> None:
    content = previous.tobytes() + current.tobytes()
    async with wired() as service:
        engine = service.small.engine
        engine.hold = asyncio.Event()
        async with service.connect() as wire:
            await wire.send(predict_head(len(content)) + content)
            if is_pipelined:
                await wire.send(predict_head(len(content)) + content)
            await until(lambda: engine.requests != [])
            wire.leave()
        await until(lambda: engine.withdrawn != [])
    assert (len(engine.requests), len(engine.withdrawn)) == (1, 1)
