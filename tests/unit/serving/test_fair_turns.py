"""Whose turn it is."""

from __future__ import annotations

import asyncio

import pytest

from service.serving.fair_turns import FairTurns


async def test_a_holder_with_one_thing_to_do_waits_for_one_turn_of_a_busy_one() -> None:
    turns, order = FairTurns(1), []

    async def work(holder: str) -> None:
        async with turns.turn(holder):
            order.append(holder)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(holder) for holder in ["busy"] * 5 + ["rare"]))
    assert order == ["busy", "busy", "rare", "busy", "busy", "busy"]


async def test_one_holder_never_has_more_than_its_share() -> None:
    turns, gate, running = FairTurns(4, 2), asyncio.Event(), []

    async def work(holder: str) -> None:
        async with turns.turn(holder):
            running.append(holder)
            await gate.wait()

    tasks = [asyncio.create_task(work(holder)) for holder in ["a"] * 6 + ["b"]]
    await asyncio.sleep(0.01)
    assert sorted(running) == ["a", "a", "b"]
    gate.set()
    await asyncio.gather(*tasks)
    assert len(running) == 7


async def test_who_leaves_while_waiting_takes_no_place_along() -> None:
    turns = FairTurns(1)
    async with turns.turn("a"):
        waiting = [asyncio.create_task(turns._take("b")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(60):
        async with turns.turn("c"):
            pass


async def test_an_error_inside_gives_the_place_back() -> None:
    turns = FairTurns(1)
    with pytest.raises(ValueError, match="no"):
        async with turns.turn("a"):
            raise ValueError("no")
    async with asyncio.timeout(60), turns.turn("a"):
        pass


async def test_a_place_given_back_as_its_heir_leaves_goes_to_the_next_in_line() -> None:
    turns, gate = FairTurns(1), asyncio.Event()

    async def work() -> None:
        async with turns.turn("a"):
            await gate.wait()

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(0)
    # Both in one turn of the loop, as a job's predictions are: the second one's future is cancelled, and still in line.
    tasks[0].cancel()
    tasks[1].cancel()
    gate.set()
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.turn("b"):
            pass
    assert [type(end) for end in ends] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]
    assert turns.is_free("a")
