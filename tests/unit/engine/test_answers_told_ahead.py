"""A request's answer is told by the device's thread, before the event loop delivers it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest

from service.core.types import PredictResult
from tests.unit.engine.tiny import Rigged, batching, request, until


async def test_an_answer_is_told_where_it_is_made_and_is_the_one_that_comes() -> None:
    told: list[tuple[str, PredictResult]] = []

    def tell(result: PredictResult) -> None:
        told.append((threading.current_thread().name, result))

    async with batching() as batcher:
        answers = await asyncio.gather(
            *(batcher.predict(dataclasses.replace(request(i), on_result=tell)) for i in range(3))
        )
    assert {name for name, _ in told} == {"device"}
    assert sorted((result for _, result in told), key=id) == sorted(answers, key=id)


async def test_nothing_is_told_of_a_request_whose_caller_left() -> None:
    told: list[PredictResult] = []
    device = Rigged()
    async with batching(device) as batcher:
        device.hold()
        leaving = asyncio.ensure_future(batcher.predict(dataclasses.replace(request(1), on_result=told.append)))
        await until(device.entered.is_set)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        device.release()
        answer = await batcher.predict(dataclasses.replace(request(2), on_result=told.append))
    assert told == [answer]
