"""A caller that is cancelled leaves no thread at work behind it."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from service.thread_work import run_to_end


class Door:
    """Work that has begun, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.ended = False

    def work(self) -> str:
        self.begun.set()
        self.may_end.wait(60)
        self.ended = True
        return "open file"


async def test_what_the_work_returns_or_raises_is_passed_on() -> None:
    assert await run_to_end(partial(int, "7")) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await run_to_end(partial(int, "seven"))


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_caller_ends_after_its_thread_and_nothing_it_made_is_left(cancels: int) -> None:
    door, released = Door(), list[str]()
    caller = asyncio.create_task(run_to_end(door.work, release=released.append))
    await asyncio.to_thread(door.begun.wait, 60)
    for _ in range(cancels):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    door.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert door.ended
    assert released == ["open file"]


async def test_a_failure_that_nobody_waits_for_any_more_hides_no_cancellation() -> None:
    door = Door()

    def fail() -> None:
        door.work()
        raise OSError("disk full")

    caller = asyncio.create_task(run_to_end(fail, release=lambda _: pytest.fail("there is nothing to release")))
    await asyncio.to_thread(door.begun.wait, 60)
    caller.cancel()
    door.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
