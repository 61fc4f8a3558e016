"""What a worker claims: what is due first, its share of it, and also what a release without an index left."""

from __future__ import annotations

import asyncio

import pytest

from service.core.types import PredictRequest, PredictResult
from service.distributed.worker.due_work import DueWork
from service.distributed.worker.worker import Worker
from service.engine.scheduling.pricing import PriceRange
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, frame
from tests.unit.distributed.worker.test_worker import a_job, jobs_of


class OneByOne:
    """The scheduling of a device that runs one request at a time, and what it was told."""

    device_rows = 1

    def __init__(self) -> None:
        self.backlogs: list[float] = []

    def costs(self) -> None:
        """Know nothing."""

    def set_backlog(self, seconds: float) -> None:
        self.backlogs.append(seconds)


async def test_a_burst_is_spread_over_idle_workers(bench: Bench) -> None:
    """Sixteen calls, four workers whose devices run one at a time: one had taken all sixteen."""
    engines, gate = [Adder() for _ in range(4)], asyncio.Event()
    for engine in engines:
        engine.gate = gate
    devices = [OneByOne() for _ in engines]
    workers = [Worker(bench.settings, e, metrics(), device=d) for e, d in zip(engines, devices, strict=True)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    await until(lambda: bench.front.readiness().ready)
    await until(lambda: _idle(bench, 4))
    calls = [asyncio.create_task(bench.engine.predict(PredictRequest(str(k), frame(k), frame(2)))) for k in range(16)]
    await until(lambda: all(engine.running for engine in engines))
    assert max(len(engine.seen) for engine in engines) <= 2
    gate.set()
    await asyncio.gather(*calls)
    assert sum(len(engine.seen) for engine in engines) == 16
    for worker in workers:
        worker.stop()
    assert await asyncio.gather(*running) == [True] * 4


async def test_a_devices_scheduling_hears_of_the_calls_that_wait_in_redis(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By them it shortens routes; its own queue holds two."""
    engine, device = Adder(), OneByOne()
    engine.gate = asyncio.Event()
    worker = Worker(bench.settings, engine, metrics(), device=device)
    running = asyncio.create_task(worker.run())
    await until(lambda: bench.front.readiness().ready)
    monkeypatch.setattr(bench.front, "price", lambda bucket, options: PriceRange(1.0, 1.0))
    calls = [asyncio.create_task(bench.engine.predict(PredictRequest(str(k), frame(k), frame(2)))) for k in range(6)]
    await until(lambda: _live(bench, 6_000_000))
    engine.gate.set()
    await asyncio.gather(*calls)
    assert 5.0 <= max(device.backlogs) <= 6.0
    worker.stop()
    assert await running


async def test_a_client_with_few_calls_does_not_wait_behind_one_with_many(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.front, "price", lambda bucket, options: PriceRange(0.2, 0.2))
    async with bench.work(Adder()):
        pass

    async def ask(client: str, count: int, total: int) -> list[asyncio.Task[PredictResult]]:
        requests = [PredictRequest(f"{client}-{k}", frame(k), frame(2), client=client) for k in range(count)]
        calls = [asyncio.create_task(bench.engine.predict(request)) for request in requests]
        await until(lambda: _live(bench, 200_000 * total))
        return calls

    calls = [*await ask("many", 6, 6), *await ask("few", 2, 8)]
    work = DueWork(bench.settings, bench.front.client, "w")
    items = [item for _ in range(4) for item in (await work.claim(1, together=1, held=0)).items]
    clients = [await bench.front.client.hget(bench.keys.job(item.job), "c") for item in items]
    assert clients == [b"many", b"few", b"many", b"few"]
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_each_item_of_a_job_wakes_a_worker(bench: Bench) -> None:
    jobs = jobs_of(bench)
    async with bench.work(Adder()):
        pass
    await jobs.submit(a_job(*range(6)))
    assert await bench.front.client.llen(bench.keys.wake) == 5


async def test_what_a_front_end_without_an_index_submits_is_found_at_once(bench: Bench) -> None:
    jobs, now = jobs_of(bench), [0.0]
    async with bench.work(Adder()):
        pass
    work = DueWork(bench.settings, bench.front.client, "w", clock=lambda: now[0])
    assert (await work.claim(8, together=8, held=0)).items == []
    await jobs.submit(a_job(1, 2))
    await bench.front.client.delete(bench.keys.due)
    assert (await work.claim(8, together=8, held=0)).items == [], "the index is not completed at every look"
    now[0] = work.next_sweep - 0.5
    assert len((await work.claim(8, together=8, held=0, woken=True)).items) == 1
    await jobs.submit(a_job(1, 2))
    await bench.front.client.delete(bench.keys.due)
    now[0] = work.next_sweep
    assert len((await work.claim(8, together=8, held=0)).items) == 1


async def _live(bench: Bench, work_us: int) -> bool:
    return int(await bench.front.client.hget(bench.keys.load, "live") or 0) == work_us


async def _idle(bench: Bench, count: int) -> bool:
    return int(await bench.front.client.zcard(bench.keys.idle)) == count
