"""What a worker claims: what is due first, its share of it, and also what a release without an index left."""

from __future__ import annotations

import asyncio

from service.core.types import PredictRequest
from service.distributed.worker.due_work import DueWork
from service.distributed.worker.worker import Worker
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, frame
from tests.unit.distributed.worker.test_worker import a_job, jobs_of


async def test_a_burst_is_spread_over_idle_workers(bench: Bench) -> None:
    """Sixteen calls, four workers whose devices run one at a time: one had taken all sixteen."""
    engines, gate = [Adder() for _ in range(4)], asyncio.Event()
    for engine in engines:
        engine.gate = gate
    workers = [Worker(bench.settings, engine, metrics(), device_rows=lambda: 1) for engine in engines]
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


async def _idle(bench: Bench, count: int) -> bool:
    return int(await bench.front.client.zcard(bench.keys.idle)) == count
