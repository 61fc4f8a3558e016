"""A worker's end: within its grace, whatever it runs and whether Redis answers or not."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.distributed.broker import client as broker_client
from service.distributed.worker.worker import Worker
from service.serving.jobs.job import JobState
from service.settings import Settings
from tests.stopwatch import Stopwatch
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of, vanish

#: What an end may take beyond the grace: handing back, the lease thread and hanging up together.
BEYOND_S = 0.5


@asynccontextmanager
async def hung(settings: Settings, engine: Adder, items: int) -> AsyncIterator[tuple[Worker, asyncio.Task[bool]]]:
    """A worker that has claimed this many items and will never answer them."""
    engine.gate = asyncio.Event()
    worker = Worker(settings, engine, metrics())
    running = asyncio.create_task(worker.run())
    await until(lambda: engine.running == items)
    yield worker, running
    assert running.done()


@pytest.mark.measured
@pytest.mark.parametrize("answers", [True, False], ids=["redis answers", "redis does not answer"])
async def test_sixteen_items_are_handed_back_within_the_grace(bench: Bench, server: Server, answers: bool) -> None:
    settings = dataclasses.replace(bench.settings, shutdown_grace_s=0.5, lease_ms=60_000)
    jobs, job = jobs_of(bench), a_job(*range(17))
    async with bench.work(Adder()):
        pass
    await jobs.submit(job)
    async with hung(settings, Adder(), 16) as (worker, running):
        if not answers:
            server.pause()
        with Stopwatch() as watch:
            worker.stop()
            await asyncio.wait_for(running, 60)
            assert watch.seconds >= 0.5
            assert watch.allows(0.5 + BEYOND_S)
        server.go_on()
    if answers:  # at once, long before that lease would have run out
        async with bench.work(Adder()):
            assert await ended(jobs, job.id) is JobState.DONE


@pytest.mark.measured
async def test_an_idle_worker_ends_at_once_though_redis_does_not_answer(bench: Bench, server: Server) -> None:
    async with bench.work(Adder()) as worker:
        server.pause()
        await asyncio.sleep(0.1)
        with Stopwatch() as watch:
            worker.stop()
            while worker._client.connection_pool._in_use_connections and watch.seconds < 10:
                await asyncio.sleep(0.02)
            assert watch.allows(BEYOND_S)
        server.go_on()


async def test_a_worker_that_starts_on_a_silent_redis_ends_when_it_is_told(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked for the server's configuration then, for as long as a connection may be silent: here for ever."""
    await until(lambda: not bench.front.is_away)
    monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT", 1000.0)
    worker = Worker(bench.settings, Adder(), metrics())
    server.pause()
    running = asyncio.create_task(worker.run())
    in_use = worker._client.connection_pool._in_use_connections
    await until(lambda: len(in_use) == 2)  # it listens for withdrawals, and looks
    worker.stop()
    await asyncio.wait_for(running, 60)
    server.go_on()


async def lapsed_item(bench: Bench) -> str:
    """A job whose worker vanished while it ran it: the next one runs it alone."""
    jobs, dying, job = jobs_of(bench), Adder(), a_job(1, 2)
    async with bench.work(Adder()):
        pass
    await jobs.submit(job)
    dying.gate = asyncio.Event()
    worker = Worker(bench.settings, dying, metrics())
    running = asyncio.create_task(worker.run())
    await until(lambda: dying.running == 1)
    await vanish(worker, running)
    return job.id


@pytest.mark.measured
async def test_an_item_that_runs_alone_does_not_hold_up_the_end(bench: Bench) -> None:
    job = await lapsed_item(bench)
    settings = dataclasses.replace(bench.settings, shutdown_grace_s=0.5, max_run_s=300.0)
    async with hung(settings, Adder(), 1) as (worker, running):
        with Stopwatch() as watch:
            worker.stop()
            await asyncio.wait_for(running, 60)
            assert watch.allows(0.5 + BEYOND_S)
    async with bench.work(Adder()):
        assert await ended(jobs_of(bench), job) is JobState.DONE


async def test_an_item_that_waits_to_run_alone_is_handed_back_when_the_worker_stops(bench: Bench) -> None:
    job, jobs, other = await lapsed_item(bench), jobs_of(bench), a_job(3, 4, size=(64, 48))
    settings = dataclasses.replace(bench.settings, shutdown_grace_s=0.5)
    engine = Adder()
    engine.gate = asyncio.Event()
    worker = Worker(settings, engine, metrics())
    worker._next_look = time.monotonic() + 0.3
    await jobs.submit(other)
    running = asyncio.create_task(worker.run())
    await until(lambda: engine.running == 1)
    await until(lambda: len(worker._leases._held) == 2)
    assert [request.id for request in engine.seen] == [other.id]
    worker.stop()
    await asyncio.wait_for(running, 60)
    async with bench.work(Adder()):
        assert [await ended(jobs, job), await ended(jobs, other.id)] == [JobState.DONE] * 2


WORKER = """
import asyncio, sys
from service.settings import Settings
from service.distributed.worker.worker import Worker
from service.app import Stop
from tests.unit.distributed.conftest import metrics
from tests.unit.distributed.engines import Adder

async def main():
    stop, engine = Stop(), Adder()
    engine.gate = asyncio.Event()
    worker = Worker(Settings(engine="redis", redis_url=sys.argv[1], shutdown_grace_s=1.0), engine, metrics())
    running = asyncio.ensure_future(worker.run())
    with stop.listening():
        while engine.running < 16:
            await asyncio.sleep(0.01)
        print("full", flush=True)
        await stop.asked.wait()
    worker.stop()
    await running
    print("left", flush=True)

asyncio.run(main())
"""


@pytest.mark.measured
async def test_a_worker_process_ends_by_sigterm_while_redis_is_stopped(bench: Bench, server: Server) -> None:
    async with bench.work(Adder()):
        pass
    await jobs_of(bench).submit(a_job(*range(17)))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, server.url, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"full\n"
        server.pause()
        with Stopwatch() as watch:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"left\n"
            assert watch.allows(1.0 + BEYOND_S)
            assert await asyncio.wait_for(process.wait(), 60) == 0
            # The interpreter's own end: 0.3 s of CPU time, on a busy machine.
            assert watch.allows(1.0 + BEYOND_S + 5.0)
    finally:
        server.go_on()
        if process.returncode is None:
            process.kill()
            await process.wait()
