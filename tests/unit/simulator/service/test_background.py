"""Jobs and clips' frames under live work without end: over Redis they get what they get in one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.core.interfaces import Engine
from service.core.types import Options, PredictRequest, Priority
from service.distributed.worker import due_work
from service.engine.batcher import Batcher
from service.engine.scheduling import batch_scheduler
from service.serving.jobs.job import JobState, NewJob
from service.settings import Settings
from service.telemetry.metrics import Metrics
from simulator.service import stand_ins
from simulator.service.device import MadeUpDevice, picture
from simulator.service.fleet import WARM_SIZES, Fleet
from simulator.service.server import SimulatedServer
from simulator.service.virtual_loop import SimulatedProcess, VirtualLoop
from simulator.service.virtual_threads import Threads

#: Virtual seconds: until background work goes first, of the whole run, and a call's deadline.
PATIENCE_S, RUN_S, DEADLINE_S = 1.0, 8.0, 60.0
#: One run of the device takes 0.1 s, a tenth of the time is 10 runs of 80.
SLOWNESS = 10.0
SETTINGS = Settings(
    engine="redis", redis_url="redis://simulated", lease_ms=2000, warmup_sizes=WARM_SIZES, max_batch=1, job_ttl_s=600.0
)
Submit = Callable[[NewJob], Coroutine[Any, Any, object]]
NUMBERS = iter(range(10**9))


@dataclass
class Answers:
    """When answers came, in virtual seconds since the beginning."""

    background: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    job: list[float] = field(default_factory=list)


def request(priority: Priority, now: float) -> PredictRequest:
    number = next(NUMBERS)
    previous, current = (picture(number, index, *WARM_SIZES[0]) for index in range(2))
    return PredictRequest(str(number), previous, current, deadline=now + DEADLINE_S, priority=priority)


async def ask(
    loop: VirtualLoop, engine: Engine, submit: Callable[[NewJob], Coroutine[Any, Any, Any]] | None
) -> Answers:
    """Keep three live calls waiting, four background ones beside them, and a job if one can be submitted."""
    answers, start = Answers(), loop.time()

    async def without_end(priority: Priority, times: list[float]) -> None:
        while True:
            await engine.predict(request(priority, loop.time()))
            times.append(loop.time() - start)

    asked = [asyncio.ensure_future(without_end(Priority.LIVE, answers.live)) for _ in range(3)]
    await asyncio.sleep(0.3)
    if submit is not None:
        frames = tuple(picture(next(NUMBERS), index, *WARM_SIZES[0]) for index in range(2))
        await submit(NewJob("job", "", frames, Options(), "print"))
    asked += [asyncio.ensure_future(without_end(Priority.BACKGROUND, answers.background)) for _ in range(4)]
    await asyncio.sleep(RUN_S)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    return answers


def played(main: Callable[[VirtualLoop, Threads, dict[Any, Any]], Coroutine[Any, Any, Answers]]) -> Answers:
    loop = VirtualLoop()
    threads, links = Threads(loop), dict[Any, Any]()
    with stand_ins.installed(loop, threads, links, 1):
        try:
            return loop.run_until_complete(main(loop, threads, links))
        finally:
            loop.close()


async def embedded(loop: VirtualLoop, threads: Threads, links: dict[Any, Any]) -> Answers:
    process = SimulatedProcess("alone", loop)

    async def live() -> Answers:
        device = MadeUpDevice(threads.sleep, loop.time, random.Random(1), 1)
        device.harm.slowness = SLOWNESS
        engine = Batcher(lambda: device, SETTINGS, Metrics(CollectorRegistry()), clock=loop.time)
        engine.scheduling._wakeups = threads.queue()  # type: ignore[assignment]
        await engine.start()
        answers = await ask(loop, engine, None)
        await engine.close()
        return answers

    answers: Answers = await process.run(live())
    return answers


async def over_redis(loop: VirtualLoop, threads: Threads, links: dict[Any, Any]) -> Answers:
    server = SimulatedServer(loop)
    fleet = Fleet(loop, threads, server, SETTINGS, random.Random(1), links, device_rows=1, slowness=SLOWNESS)
    front = fleet.start_front()
    fleet.start_worker()
    while not front.engine.readiness().ready:
        await asyncio.sleep(0.1)
    answers: Answers = await front.process.run(ask(loop, front.engine, front.engine.jobs.submit))
    view = await front.process.run(front.engine.jobs.get("job", ""))
    answers.job = [view.finished or 0.0] if view.state is JobState.DONE else []
    fleet.end()
    await asyncio.sleep(1.0)
    return answers


def test_background_work_has_the_same_share_over_redis_as_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch_scheduler, due_work):
        monkeypatch.setattr(module, "PATIENCE_S", PATIENCE_S)
    alone, apart = played(embedded), played(over_redis)
    assert apart.job, "the job was done"
    assert len(alone.background) >= 4
    assert len(apart.background) + 1 >= 0.7 * len(alone.background)
    assert apart.background[0] <= 2 * alone.background[0]
    assert len(apart.live) >= 0.9 * len(alone.live), "live work has the rest"
