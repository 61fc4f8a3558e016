"""A device that is lost ends the process, for the supervisor to start a new one; callers are told when to come back."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest

from service.app import EXIT_DEVICE_LOST
from service.settings import Settings
from tests.system.e2e.broken import FAULTS, start
from tests.system.e2e.process import PATIENCE, free_port
from tests.system.soak.frames import raw
from tests.system.soak.wire import Connections


async def ready(http: str) -> bool:
    async with httpx.AsyncClient(base_url=http, timeout=5) as client:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/healthz/ready")).status_code == 200
    return False


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_lost_device_fails_what_is_in_flight_and_ends_the_process_with_status_3(fault: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = start(fault, Settings(http_port=port, grpc_enabled=False, warmup_sizes=((32, 48),), watchdog_s=0.5))
    try:
        async with asyncio.timeout(PATIENCE):
            while not await ready(address):
                assert process.is_alive(), f"ended with {process.exitcode}"
                await asyncio.sleep(0.05)
            connections = Connections(address)
            replies = await asyncio.gather(*(connections.ask(raw(seed, 32, 48, "")) for seed in range(3)))
            connections.close()
            await asyncio.to_thread(process.join)
    finally:
        process.kill()
    print(f"{fault}: {[reply.status for reply in replies]}, exit status {process.exitcode}")
    assert [reply.status for reply in replies] == [503] * 3
    assert all(reply.wait_ms for reply in replies)
    # Who comes in a moment after the loss is told that the process is leaving.
    reasons = {json.loads(reply.body)["reason"] for reply in replies}
    assert {"device_lost"} <= reasons <= {"device_lost", "draining"}
    assert process.exitcode == EXIT_DEVICE_LOST
