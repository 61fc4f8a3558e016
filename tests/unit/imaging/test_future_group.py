"""Several works of an executor, awaited at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.core.errors import InvalidFrame
from service.imaging.future_group import FutureGroup


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Value:
    """Something that can be referred to weakly."""


def begun(pool: ThreadPoolExecutor, *works: Callable[[], object]) -> FutureGroup[object]:
    return FutureGroup([pool.submit(work) for work in works])


async def test_results_come_in_the_order_of_the_works(pool: ThreadPoolExecutor) -> None:
    second_is_over = threading.Event()

    def first() -> int:
        assert second_is_over.wait(60)
        return 1

    def second() -> int:
        second_is_over.set()
        return 2

    assert await begun(pool, first, second).results() == [1, 2]


async def test_the_loop_is_woken_once_however_many_works_there_are(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, wake_ups = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe

    def counted(*arguments: object, **options: object) -> object:
        wake_ups.append(arguments)
        return wake(*arguments, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    go_on = threading.Event()
    work = begun(pool, *[lambda: go_on.wait(60)] * 5)
    awaiting = asyncio.ensure_future(work.results())
    await asyncio.sleep(0)
    go_on.set()
    assert await awaiting == [True] * 5
    assert len(wake_ups) == 1


async def test_works_that_ended_before_are_not_waited_for(pool: ThreadPoolExecutor) -> None:
    futures = [pool.submit(lambda: 7)]
    assert futures[0].result(60) == 7
    waiting = FutureGroup(futures).results()
    with pytest.raises(StopIteration) as raised:
        waiting.send(None)
    assert raised.value.value == [7]


async def test_the_first_error_drops_what_has_not_begun_and_comes_when_all_is_over(pool: ThreadPoolExecutor) -> None:
    has_failed, ends = threading.Event(), list[str]()

    def failing() -> None:
        raise InvalidFrame("no picture", field="current")

    def running() -> None:
        assert has_failed.wait(60)
        ends.append("running")

    blocked = pool.submit(has_failed.wait, 60)  # one thread
    work = begun(pool, failing, running, lambda: ends.append("dropped"))
    work._futures[0].add_done_callback(lambda _: has_failed.set())
    with pytest.raises(InvalidFrame, match="no picture"):
        await work.results()
    assert blocked.result(60)
    assert ends in ([], ["running"])


async def test_cancelling_drops_what_has_not_begun(pool: ThreadPoolExecutor) -> None:
    go_on, ends = threading.Event(), list[str]()
    holding = [pool.submit(go_on.wait, 60) for _ in range(2)]
    awaiting = asyncio.ensure_future(begun(pool, lambda: ends.append("done")).results())
    await asyncio.sleep(0)
    awaiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaiting
    go_on.set()
    assert all(future.result(60) for future in holding)
    assert pool.submit(len, ends).result(60) == 0


@pytest.mark.parametrize("end", ["awaited", "failed", "cancelled"])
async def test_results_are_not_kept_by_what_gave_them(pool: ThreadPoolExecutor, end: str) -> None:
    """A callback, its future and this object hold each other: such a cycle lives until a collection."""
    value = Value()
    kept = weakref.ref(value)

    def fail() -> None:
        raise InvalidFrame("no picture", field="current")

    works: list[Callable[[], object]] = [lambda value=value: value, *([fail] if end == "failed" else [])]  # type: ignore[misc]
    work = begun(pool, *works)
    gc.disable()
    try:
        if end == "cancelled":
            work.cancel()
        else:
            with contextlib.suppress(InvalidFrame):
                await work.results()
        del works, work, value
        # What a thread has just done it still holds for a moment.
        async with asyncio.timeout(60):
            while kept() is not None:
                pool.submit(int).result(60)
                await asyncio.sleep(0.001)
    finally:
        gc.enable()
