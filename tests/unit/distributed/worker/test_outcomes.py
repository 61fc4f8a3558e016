"""What a broken device, too large a job and too large an answer do to a fleet: as much as its fate allows."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import numpy as np
import pytest
import redis

from service.core.errors import Internal, ServiceError, TooLarge, Unavailable
from service.core.interfaces import Readiness
from service.core.types import Options, PredictRequest, PredictResult
from service.distributed.broker.capacity import Capacity, capacity
from service.distributed.broker.client import pipeline
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.worker.worker import Worker
from service.serving.jobs.fate import WORST_LOSSES
from service.serving.jobs.job import JobState
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, bench_of, metrics, until
from tests.unit.distributed.engines import Adder, answer, frame
from tests.unit.distributed.servers import SHIPPED_CONF, Server, running, shipped_acl
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of

LOST = "the device is lost"


class Breaking(Adder):
    """Its device breaks over a frame of 13, and takes all that runs with it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = asyncio.Event()

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.seen.append(request)
        if self.broken.is_set() or request.previous.pixels[1, 1, 0] == 13:
            await asyncio.sleep(0.02)
            self.ready = Readiness(False, "device_lost")
            self.broken.set()
            raise Unavailable(LOST, reason="device_lost")
        await asyncio.wait([asyncio.ensure_future(self.broken.wait())], timeout=0.05)
        if self.broken.is_set():
            raise Unavailable(LOST, reason="device_lost")
        return answer(request)


async def restarted(kept: RedisJobs, settings: Settings, jobs: list[str], deaths: int) -> int:
    """Workers that died until all `jobs` had ended, each restarted when its device was lost; `deaths` at most."""
    for died in range(deaths):
        engine = Breaking()
        worker = Worker(settings, engine, metrics())
        life = asyncio.create_task(worker.run())
        over = asyncio.ensure_future(asyncio.gather(*(ended(kept, job) for job in jobs)))
        waiting: set[asyncio.Future[Any]] = {life, over}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
        worker.stop()
        # The last one may be told to stop before it notices.
        if await life and not engine.broken.is_set():
            return died
    return deaths


class Doomed(Adder):
    """A device that is lost, by nothing that runs on it: at its first run, or at the `survives` after."""

    def __init__(self, survives: int = 0) -> None:
        super().__init__()
        self.survives = survives

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.seen.append(request)
        if len(self.seen) > self.survives:
            self.ready = Readiness(False, "device_lost")
            raise Unavailable(LOST, reason="device_lost")
        return answer(request)


@pytest.mark.parametrize("losses", [[0, 0], [0, 0, 0, 0, 0], [0, 1, 0]])
async def test_a_job_that_is_alone_with_devices_that_are_lost_anyway_is_no_breaker(
    bench: Bench, losses: list[int]
) -> None:
    """Each is found out by a frame of the worker's own, but one that is lost in the instant between (`1`)."""
    settings = dataclasses.replace(bench.settings, lease_ms=300, max_deliveries=3)
    jobs, job = jobs_of(bench), a_job(5, 1)
    async with bench.work(Adder()):
        pass
    await jobs.submit(job)
    engines = [Doomed(survives) for survives in losses]
    for engine in engines:
        assert await Worker(settings, engine, metrics()).run() is False
    ran = [sum(request.id == job.id for request in engine.seen) for engine in engines]
    assert ran == [1, *losses[1:]]
    async with bench.work(Adder(), settings):
        assert await ended(jobs, job.id) is JobState.DONE
    assert await bench.front.client.xlen(bench.keys.dead) == 0
    await until(lambda: idle(bench))


async def idle(bench: Bench) -> bool:
    """Whether nothing is counted any more; a dead letter keeps its frames."""
    return all(int(value) == 0 for value in await bench.front.client.hvals(bench.keys.load))


@pytest.mark.parametrize("company", [0, 6])
async def test_a_job_that_breaks_devices_costs_three_of_them_and_no_neighbour(bench: Bench, company: int) -> None:
    settings = dataclasses.replace(bench.settings, lease_ms=300, max_deliveries=10)
    jobs, poison = jobs_of(bench), a_job(13, 1)
    async with bench.work(Adder()):
        pass
    innocent = [a_job(k, 1) for k in range(20, 20 + company)]
    for job in (poison, *innocent):
        await jobs.submit(job)
    every = [job.id for job in (poison, *innocent)]
    assert await restarted(jobs, settings, every, 6) == WORST_LOSSES
    view = await jobs.get(poison.id, "")
    assert (view.state, view.failure is not None and "device was lost" in view.failure.message) == (
        JobState.FAILED,
        True,
    )
    assert [(await jobs.get(job.id, "")).state for job in innocent] == [JobState.DONE] * company
    assert await bench.front.client.xlen(bench.keys.dead) == 1
    await until(lambda: idle(bench))


class Small(Adder):
    """A device that frames of 64 rows do not fit."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        if request.previous.height == 64:
            self.seen.append(request)
            raise Unavailable("not enough memory", reason="out_of_memory", retry_after=1.0)
        return await super().predict(request)


async def test_a_job_that_fits_no_device_is_tried_a_few_times_with_rests_and_buried(bench: Bench) -> None:
    settings = dataclasses.replace(bench.settings, lease_ms=300, max_deliveries=3)
    jobs, small, job = jobs_of(bench), Small(), a_job(1, 2, size=(64, 48))
    async with bench.work(small, settings):
        begun = time.monotonic()
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.FAILED
        assert time.monotonic() - begun >= 2 * 0.3, "there was no rest between its runs"
    assert len(small.seen) == 3
    failure = (await jobs.get(job.id, "")).failure
    assert failure is not None
    assert "not enough memory" in failure.message
    await until(lambda: idle(bench))


async def test_a_larger_device_takes_at_once_what_did_not_fit(bench: Bench) -> None:
    settings = dataclasses.replace(bench.settings, lease_ms=60_000)
    jobs, small, large = jobs_of(bench), Small(), Adder()
    async with bench.work(small, settings):
        job = a_job(1, 2, size=(64, 48))
        await jobs.submit(job)
        await until(lambda: len(small.seen) == 1)
        async with bench.work(large, settings):
            assert await ended(jobs, job.id) is JobState.DONE
    assert (len(small.seen), len(large.seen)) == (1, 1)


async def test_what_did_not_fit_waits_for_redis_and_is_not_left_to_its_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who else lives is asked of Redis, which may be away just then."""
    settings = dataclasses.replace(bench.settings, lease_ms=60_000)
    jobs, small, large = jobs_of(bench), Small(), Adder()
    async with bench.work(small, settings) as worker:
        ask, failures = worker._claims.others, [redis.ConnectionError("cut")]

        async def others() -> bool:
            if failures:
                raise failures.pop()
            return await ask()

        monkeypatch.setattr(worker._claims, "others", others)
        job = a_job(1, 2, size=(64, 48))
        await jobs.submit(job)
        await until(lambda: not failures)
        async with bench.work(large, settings):
            assert await ended(jobs, job.id) is JobState.DONE
    assert (len(small.seen), len(large.seen)) == (1, 1)


async def test_a_cut_after_the_last_answer_does_not_make_it_another_workers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = pipeline
    cuts: list[object] = []

    async def cut_at_the_end(client: Any, commands: Any, **more: Any) -> Any:
        if commands[0][0] == "PEXPIRE":
            cuts.append(commands)
            raise redis.ConnectionError("cut")
        return await move(client, commands, **more)

    monkeypatch.setattr("service.distributed.worker.claims.pipeline", cut_at_the_end)
    jobs, job = jobs_of(bench), a_job(1, 2, 3)
    async with bench.work(Adder()):
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        await until(lambda: len(cuts) == 1)
    assert bench.count("dmvfn_redis_lease_lost_total") == 0


async def test_a_caller_is_told_at_once_where_no_other_device_could_do_better(bench: Bench) -> None:
    small = Small()
    async with bench.work(small):
        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(bench.engine.predict(PredictRequest("r", frame(1, 64), frame(2, 64))), 60)
    assert (caught.value.reason, len(small.seen)) == ("out_of_memory", 1)


class Mapping(Adder):
    """Answers with maps where they are asked for: 20 bytes a pixel."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.seen.append(request)
        size = request.current.height, request.current.width
        if not request.options.maps:
            return answer(request)
        step = dataclasses.replace(
            answer(request).steps[0], flow=np.zeros((*size, 4), np.float32), mask=np.zeros(size, np.float32)
        )
        return dataclasses.replace(answer(request), steps=(step,))


#: What a server takes in one value, and what it sends to one client: it cuts the connection of who asks for more.
LIMITS = [("--proto-max-bulk-len", "1mb"), ("--client-output-buffer-limit", "normal", "1mb", "1mb", "60")]


@pytest.mark.parametrize("limit", LIMITS, ids=["taken", "sent"])
async def test_an_answer_above_what_redis_takes_or_sends_is_refused_at_the_door(
    settings: Settings, limit: tuple[str, ...]
) -> None:
    large = PredictRequest("r", frame(1, 256, 256), frame(2, 256, 256))
    with running(None, *limit) as server:
        async with bench_of(settings.replace(redis_url=server.url)) as bench:
            jobs, engine = jobs_of(bench), Mapping()
            async with bench.work(engine):
                for options, field in ((Options(maps=True), "maps"), (Options(steps=6), "steps")):
                    with pytest.raises(TooLarge) as caught:
                        await bench.engine.predict(dataclasses.replace(large, options=options))
                    assert caught.value.field == field
                    job = dataclasses.replace(a_job(1, 2, size=(256, 256)), options=options)
                    with pytest.raises(TooLarge) as caught:
                        await jobs.submit(job)
                    assert caught.value.field == field
                raw = PredictRequest("r", frame(1, 640, 640), frame(2, 640, 640))
                with pytest.raises(TooLarge):
                    await bench.engine.predict(raw)  # its frames alone are above the limit
                await bench.engine.predict(large)
            assert len(engine.seen) == 1


@pytest.mark.parametrize("told", [True, False])
async def test_an_answer_that_redis_refuses_is_an_error_and_no_resend(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Where the front end did not know the limit: an ACL may hide it."""
    with running(None, "--proto-max-bulk-len", "1mb") as server:
        async with bench_of(settings.replace(redis_url=server.url)) as bench:
            jobs, engine = jobs_of(bench), Mapping()
            async with bench.work(engine):
                bench.front.capacity = Capacity()
                if not told:

                    async def silent(client: object) -> Capacity:
                        return Capacity()

                    monkeypatch.setattr("service.distributed.worker.claims.capacity", silent)
                job = dataclasses.replace(a_job(1, 2, size=(256, 256)), options=Options(maps=True))
                await jobs.submit(job)
                assert await ended(jobs, job.id) is JobState.FAILED
                failure = (await jobs.get(job.id, "")).failure
                assert failure is not None
                assert failure.code == "too_large"
                with pytest.raises(TooLarge):
                    await jobs.result(job.id, "", 0)
            assert len(engine.seen) == 1
            await until(bench.empty)


async def test_nothing_is_sent_of_an_item_whose_lease_is_gone(bench: Bench, server: Server) -> None:
    jobs, slow, rescuer = jobs_of(bench), Adder(), Adder()
    slow.gate = asyncio.Event()
    async with bench.work(slow) as worker:
        sent: list[bytes] = []
        publish = worker._claims.answer

        async def counted(item: object, result: bytes) -> bool:
            sent.append(result)
            return await publish(item, result)  # type: ignore[arg-type]

        worker._claims.answer = counted  # type: ignore[method-assign]
        job = a_job(1, 2)
        await jobs.submit(job)
        await until(lambda: slow.running == 1)
        ((lease, _),) = worker._runs._running.items()
        worker._leases.drop(lease)
        async with bench.work(rescuer):
            assert await ended(jobs, job.id) is JobState.DONE
        slow.gate.set()
        await until(lambda: not worker._runs._running)
        assert sent == []


async def test_a_result_that_could_be_stored_and_never_fetched_ends_as_too_large(settings: Settings) -> None:
    """Its job was done, and each who asked for it was told that Redis is away."""
    with running(None, *LIMITS[1]) as server:
        async with bench_of(settings.replace(redis_url=server.url)) as bench, bench.work(Mapping()):
            jobs = jobs_of(bench)
            bench.front.capacity = Capacity()  # of before somebody changed the limit
            job = dataclasses.replace(a_job(1, 2, size=(256, 256)), options=Options(maps=True))
            await jobs.submit(job)
            assert await ended(jobs, job.id) is JobState.FAILED
            with pytest.raises(TooLarge):
                await jobs.result(job.id, "", 0)


async def test_the_shipped_server_sends_the_largest_answer() -> None:
    with running(None, str(SHIPPED_CONF), acl=shipped_acl()) as server:
        async with bench_of(Settings(engine="redis", redis_url=server.url)) as bench:
            await until(lambda: bench.front.capacity.reply > 0)
            assert bench.front.capacity.answer_limit(Settings()) == Settings().max_answer_bytes


async def test_a_server_says_what_it_can_hold(server: Server) -> None:
    admin = server.client()
    admin.config_set("maxmemory", 10_000_000)
    admin.config_set("proto-max-bulk-len", 2**22)
    admin.config_set("client-output-buffer-limit", "normal 2097152 1048576 60")
    from service.distributed.broker.client import close, connect

    client = connect(Settings(redis_url=server.url))
    measured = await capacity(client)
    await close(client)
    admin.close()
    assert measured == Capacity(2**22, 10_000_000, "noeviction", 2**21)
    assert measured.answer_limit(Settings()) == int(0.97 * 2**21)
    assert measured.result_limit(Settings()) == 5_000_000
    assert Capacity().answer_limit(Settings(max_answer_bytes=7)) == 7


class Full(Adder):
    """An engine whose own queue takes one request at a time."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        from service.core.errors import QueueFull

        if self.running:
            raise QueueFull("no room")
        self.running += 1
        try:
            self.seen.append(request)
            await asyncio.sleep(0.005)
            return answer(request)
        finally:
            self.running -= 1


async def test_what_a_workers_own_queue_has_no_room_for_waits_and_is_not_handed_back(bench: Bench) -> None:
    jobs = jobs_of(bench)
    async with bench.work(Adder()):
        pass
    work = [a_job(k, 1) for k in range(8)]
    for job in work:
        await jobs.submit(job)
    async with bench.work(Full()):
        assert {await ended(jobs, job.id) for job in work} == {JobState.DONE}
    assert bench.count("dmvfn_redis_redeliveries_total", why="handed_back") == 0


async def test_dead_letters_name_their_reason(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    from service.cli.jobs import main

    jobs, broken = jobs_of(bench), Adder()

    def bug(request: PredictRequest) -> ServiceError:
        return Internal("x")

    broken.error = bug
    job = a_job(1, 2)
    async with bench.work(broken, dataclasses.replace(bench.settings, max_deliveries=1)):
        await jobs.submit(job)
        await ended(jobs, job.id)
    assert await asyncio.to_thread(main, ["list"], bench.settings) == 0
    listed = capsys.readouterr().out
    assert job.id in listed
    assert "given up after 1 runs: the last one ended with an internal error" in listed
