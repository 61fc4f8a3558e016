"""The end of a front end does not wait for a Redis that is silent."""

from __future__ import annotations

import asyncio

import pytest

from service.distributed.broker import client as broker_client
from service.distributed.frontend import engine as queued_engine
from service.distributed.frontend import queue_client
from service.distributed.frontend.backend import FrontendEngine
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.frontend.test_engine import request
from tests.unit.distributed.servers import Server


@pytest.mark.parametrize("calls", [0, 20])
async def test_a_front_end_ends_though_redis_is_silent_and_its_calls_are_not_run(
    bench: Bench, server: Server, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each withdrawal took as long as a connection may be silent, four at a time: here for ever."""
    async with bench.work(device := Adder()):
        device.gate = asyncio.Event()
        monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT", 1000.0)
        for module in (queue_client, queued_engine):
            monkeypatch.setattr(module, "LEAVE_S", 0.1)
        engine = FrontendEngine(bench.settings, metrics())
        await engine.start()
        asked = [asyncio.create_task(engine.predict(request(k))) for k in range(calls)]
        if calls:
            await until(lambda: device.running >= 1)
        server.pause()
        for call in asked:
            call.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.wait_for(engine.close(), 60)
        server.go_on()
        device.gate.set()
        await until(bench.empty)
