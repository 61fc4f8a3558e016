"""What a stop waits for."""

from __future__ import annotations

import asyncio

import pytest

from service.backends import DrainingEngine
from service.core.errors import Unavailable
from service.core.types import Options, PredictRequest
from service.serving.accepted_work import AcceptedWork
from tests.unit.distributed.engines import frame
from tests.unit.rest.small import ShiftEngine
from tests.unit.rpc.small import SmallEngine


def a_request() -> PredictRequest:
    return PredictRequest("id", frame(1), frame(2), Options(), 0.0)


async def test_a_stop_waits_for_accepted_work_which_may_still_predict() -> None:
    gate, go_on = DrainingEngine(ShiftEngine()), asyncio.Event()

    async def clip() -> int:
        with gate.accepted():
            await go_on.wait()
            # As a clip does: every frame in a task of its own.
            return len((await asyncio.create_task(gate.predict(a_request()))).steps)

    clip_task = asyncio.create_task(clip())
    await asyncio.sleep(0)
    shutting = asyncio.create_task(gate.drain(10))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await gate.predict(a_request())
    assert not shutting.done()
    go_on.set()
    assert (await clip_task, await shutting) == (1, True)


async def test_a_stop_says_when_the_grace_was_too_short() -> None:
    gate = DrainingEngine(SmallEngine())
    with gate.accepted():
        assert not await gate.drain(0.01)
    assert await gate.drain(0.01)


async def test_what_comes_after_the_stop_is_neither_counted_nor_marked() -> None:
    work = AcceptedWork()
    work.refuse_new()
    with work.accepted():
        assert (work.count, work.inside) == (0, False)


async def test_a_start_is_over_when_the_process_says_so_whatever_its_engine_says() -> None:
    gate = DrainingEngine(SmallEngine(), is_starting=True)
    assert (gate.readiness().ready, gate.readiness().reason) == (False, "starting")
    gate.finish_start()
    assert gate.readiness().ready
    gate.stop_advertising()
    assert gate.readiness().reason == "draining"
