"""Calls that wait for their answers each over a connection of its own, and those that are heard of together."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
import redis

from service.core.errors import InvalidRequest
from service.core.types import PredictRequest
from service.distributed.broker.client import pipeline
from service.distributed.frontend import own_replies
from service.distributed.frontend.own_replies import MOST_BYTES, MOST_CALLS, OwnReplies
from service.distributed.worker import due_work, items
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.frontend.test_engine import request


async def is_clean(bench: Bench) -> bool:
    """Whether no item, record, answer or stream that told of one is left, and all places are free."""
    client = bench.front.client
    left = {key.partition(b"}:")[2] async for key in client.scan_iter(match="*")}
    told = await client.xlen(bench.keys.reply(bench.front.name))
    names = {name for name in left if name[:2] in (b"j:", b"o:", b"a:", b"r:")} - {b"r:" + bench.front.name.encode()}
    places = bench.engine._own_replies._places
    return not names and told == 0 and places == MOST_CALLS and await bench.empty()


def counted_fetches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the answers that are fetched once the listener has heard of them, exchange by exchange."""
    fetches, fetch = list[int](), bench.engine._fetch

    async def counted(commands: Any) -> Any:
        fetches.append(len(commands) // 2)
        return await fetch(commands)

    monkeypatch.setattr(bench.engine, "_fetch", counted)
    return fetches


async def test_an_answer_and_a_failure_are_read_in_the_exchange_that_waits_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, adder = counted_fetches(bench, monkeypatch), Adder()
    adder.error = lambda asked: InvalidRequest("not that") if asked.current.pixels[5, 5, 0] == 9 else None
    async with bench.work(adder):
        assert alike(await bench.engine.predict(request(3)), answer(request(3)))
        with pytest.raises(InvalidRequest, match="not that"):
            await bench.engine.predict(PredictRequest("r", frame(1), frame(9)))
        await until(lambda: is_clean(bench))
    assert fetches == []


async def test_of_more_calls_than_have_places_the_others_are_heard_of_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, adder = counted_fetches(bench, monkeypatch), Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        asked = [request(k) for k in range(MOST_CALLS + 12)]
        calls = [asyncio.create_task(bench.engine.predict(one)) for one in asked]
        await until(lambda: len(bench.engine._own_replies._tasks) == MOST_CALLS)
        assert not bench.engine._own_replies.take_place(1)
        adder.gate.set()
        answers = await asyncio.gather(*calls)
        assert all(alike(a, answer(q)) for a, q in zip(answers, asked, strict=True))
        await until(lambda: is_clean(bench))
        assert not bench.engine._own_replies.take_place(MOST_BYTES + 1), "a large one is fetched"
    assert sum(fetches) == 12


async def test_a_worker_of_the_release_before_tells_the_front_end_and_its_answer_is_fetched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_item = items.read_item

    def read_before(*entry: Any) -> Any:
        item = read_item(*entry)
        return None if item is None else dataclasses.replace(item, has_own_reply=False)

    monkeypatch.setattr(due_work, "read_item", read_before)
    monkeypatch.setattr(own_replies, "BLOCK_S", 0.05)
    fetches = counted_fetches(bench, monkeypatch)
    async with bench.work(Adder()):
        assert alike(await bench.engine.predict(request(3)), answer(request(3)))
        await until(lambda: is_clean(bench))
    assert fetches == [1]


async def test_a_front_end_of_the_release_before_hears_of_its_calls_as_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnReplies, "take_place", lambda self, nbytes: False)
    fetches = counted_fetches(bench, monkeypatch)
    async with bench.work(Adder()):
        assert alike(await bench.engine.predict(request(3)), answer(request(3)))
        await until(lambda: is_clean(bench))
    assert fetches == [1]


async def test_an_answer_whose_way_here_broke_is_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    async def breaking(client: Any, commands: Any) -> Any:
        answers.append(await pipeline(client, commands))
        if len(answers) == 1:
            raise redis.ConnectionError("cut, and the server had answered")
        return answers[-1]

    monkeypatch.setattr(own_replies, "pipeline", breaking)
    async with bench.work(Adder()):
        assert alike(await bench.engine.predict(request(3)), answer(request(3)))
        await until(lambda: is_clean(bench))
    assert len(answers) >= 2


async def test_the_place_of_a_caller_who_left_is_free_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_replies, "BLOCK_S", 0.05)
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        call = asyncio.create_task(bench.engine.predict(request(3)))
        await until(lambda: bool(adder.running) and len(bench.engine._own_replies._tasks) == 1)
        call.cancel()
        await until(lambda: bench.engine._own_replies._places == MOST_CALLS)
        await until(bench.empty)
