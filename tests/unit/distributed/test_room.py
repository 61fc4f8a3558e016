"""Room behind Redis: shared fairly by calls, jobs, clients and results, and given back by whatever ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from service.core.errors import ClientLimit, Internal, NotFound, QueueFull, ServiceError, TooLarge
from service.core.types import Frame, Options, PredictRequest, PredictResult, Priority
from service.distributed.broker.capacity import capacity
from service.distributed.broker.keys import slot_of
from service.distributed.broker.submission import JOBS_SHARE, RECORD_BYTES
from service.distributed.frontend.job_store import RedisJobs
from service.serving.jobs.job import JobState, NewJob, job_id
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder, answer, frame
from tests.unit.distributed.servers import Server
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of


def with_settings(bench: Bench, **changes: object) -> RedisJobs:
    """The same front end under other settings."""
    bench.settings = bench.front.settings = dataclasses.replace(bench.settings, **changes)  # type: ignore[arg-type]
    bench.engine._settings = bench.settings
    return jobs_of(bench)


def of_client(client: str, *values: int) -> NewJob:
    return NewJob(job_id(client, None), client, tuple(frame(v) for v in values), Options(), "print")


async def load(bench: Bench) -> dict[str, int]:
    return {k.decode(): int(v) for k, v in (await bench.front.client.hgetall(bench.keys.load)).items()}


async def results(bench: Bench) -> int:
    return int(await bench.front.client.hget(bench.keys.results, "sum") or 0)


async def known(bench: Bench) -> None:
    """So that calls are taken: a worker has been there, and is gone."""
    async with bench.work(Adder()):
        pass


async def test_jobs_leave_room_for_calls_and_what_is_withdrawn_counts_no_more(bench: Bench) -> None:
    jobs = with_settings(bench, max_queue_items=10)
    await known(bench)
    first, second = a_job(*range(8)), a_job(1, 2, 3, 4)
    await jobs.submit(first)
    await jobs.submit(second)
    with pytest.raises(QueueFull):
        await jobs.submit(a_job(1, 2))
    calls = [asyncio.create_task(bench.engine.predict(PredictRequest(str(k), frame(k), frame(1)))) for k in range(10)]

    async def all_there() -> bool:
        return (await load(bench))["items"] == 20

    await until(all_there)
    with pytest.raises(QueueFull):
        await bench.engine.predict(PredictRequest("x", frame(1), frame(1)))
    for job in (first, second):
        assert (await jobs.cancel(job.id, "")).state is JobState.CANCELLED
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await until(bench.empty)
    await bench.front._look()
    assert (bench.front.snapshot.items, bench.front.snapshot.work) == (0, 0.0), "no worker was there to sweep"


async def test_frames_of_jobs_leave_bytes_for_calls(bench: Bench) -> None:
    nbytes = 2 * frame(1).pixels.nbytes
    jobs = with_settings(bench, max_queue_bytes=5 * nbytes)
    await known(bench)
    await jobs.submit(a_job(1, 2))
    await jobs.submit(a_job(1, 2))
    await jobs.submit(a_job(1, 2)) if 3.1 * nbytes < JOBS_SHARE * 5 * nbytes else None
    with pytest.raises(QueueFull):
        await jobs.submit(a_job(1, 2))
    with pytest.raises(TooLarge):
        await jobs.submit(a_job(*range(9)))
    async with bench.work(Adder()):
        await bench.engine.predict(PredictRequest("x", frame(1), frame(1)))


async def test_a_call_that_no_queue_would_take_is_too_large(bench: Bench) -> None:
    with_settings(bench, max_queue_bytes=1000)
    async with bench.work(Adder()):
        with pytest.raises(TooLarge):
            await bench.engine.predict(PredictRequest("x", frame(1), frame(1)))


async def test_a_client_has_no_more_of_its_jobs_at_once_than_it_may(bench: Bench) -> None:
    jobs = with_settings(bench, max_client_items=4)
    ann = of_client("ann", 1, 2, 3, 4)
    await until(lambda: bench.front.readiness().reason == "starting")
    await jobs.submit(ann)
    with pytest.raises(ClientLimit):
        await jobs.submit(of_client("ann", 1, 2, 3))
    with pytest.raises(TooLarge):
        await jobs.submit(of_client("ann", *range(6)))
    await jobs.submit(of_client("bob", 1, 2, 3))
    await jobs.submit(a_job(*range(9)))  # where nobody is known there is no limit
    await jobs.cancel(ann.id, "ann")
    last = of_client("ann", 1, 2, 3)
    await jobs.submit(last)
    async with bench.work(Adder()):
        await until(bench.empty)
    assert not await bench.front.client.exists(bench.keys.clients)


async def test_jobs_are_listed_in_the_order_of_their_acceptance_whatever_front_ends_clocks_say(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: bench.front.readiness().reason == "starting")
    jobs, wall_time, created = with_settings(bench), time.time, dict[str, float]()

    def later_than(seconds: float) -> Callable[[], Awaitable[bool]]:
        async def is_later() -> bool:
            return await bench.front.now_ms() > 1000 * seconds  # two of one millisecond have no order

        return is_later

    for hours in (1, 0, -1):
        monkeypatch.setattr(time, "time", lambda hours=hours: wall_time() + 3600 * hours)
        view, _ = await jobs.submit(of_client("ann", 1, 2))
        created[view.id] = view.created
        await until(later_than(view.created))
    listed = await jobs.of_client("ann")
    assert [view.id for view in listed] == list(reversed(created))
    assert [view.created for view in listed] == [created[view.id] for view in listed]


async def test_a_caller_without_a_key_has_its_share_of_jobs_and_takes_turns_by_its_address(bench: Bench) -> None:
    """All such callers shared one row without turns or limit, though the address was told with each job."""
    jobs = with_settings(bench, max_client_items=4)
    await until(lambda: bench.front.readiness().reason == "starting")
    first, second = (dataclasses.replace(a_job(1, 2, 3), holder=f"address 10.0.0.{k}") for k in (1, 2))
    await jobs.submit(first)
    with pytest.raises(ClientLimit):
        await jobs.submit(dataclasses.replace(a_job(1, 2, 3, 4), holder=first.holder))
    await jobs.submit(second)
    streams = await bench.front.client.smembers(bench.keys.buckets)
    assert streams == {
        bench.keys.stream(Priority.BACKGROUND, "32x48@1", slot_of(job.holder)).encode() for job in (first, second)
    }
    assert len(streams) == 2
    assert (await jobs.get(first.id, "")).state is JobState.QUEUED  # an id is all that opens it, from anywhere
    async with bench.work(Adder()):
        await until(bench.empty)
    assert not await bench.front.client.exists(bench.keys.clients)


class Noisy(Adder):
    """Answers that no file format makes smaller."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        one = answer(request)
        noise = np.random.default_rng(1).integers(0, 256, request.previous.pixels.shape, dtype=np.uint8)
        return dataclasses.replace(one, steps=(dataclasses.replace(one.steps[0], frame=Frame(noise)),))


SIZE = (64, 96)
RAW = 3 * SIZE[0] * SIZE[1]


async def finished(jobs: RedisJobs, *values: int) -> NewJob:
    job = a_job(*values, size=SIZE)
    await jobs.submit(job)
    assert await ended(jobs, job.id) is JobState.DONE
    return job


async def test_results_fill_their_bound_and_not_redis(bench: Bench) -> None:
    """Unfetched ones refuse new jobs, never calls; fetched ones go, oldest first; deleting frees at once."""
    jobs = with_settings(bench, max_result_bytes=4 * (RAW + 2 * RECORD_BYTES))
    async with bench.work(Noisy()):
        kept = [await finished(jobs, k, 1) for k in range(3)]
        assert 3 * RAW < await results(bench) < bench.settings.max_result_bytes
        kept.append(await finished(jobs, 9, 1))
        with pytest.raises(QueueFull) as caught:
            await jobs.submit(a_job(1, 2, size=SIZE))
        assert caught.value.retry_after is not None
        await bench.engine.predict(PredictRequest("x", frame(1), frame(1)))
        for job in (kept[1], kept[0]):
            await jobs.result(job.id, "", 0)
        await finished(jobs, 7, 1)
        for job, there in ((kept[0], True), (kept[1], False), (kept[2], True), (kept[3], True)):
            assert bool(await bench.front.client.exists(bench.keys.job(job.id))) is there
        before = await results(bench)
        assert (await jobs.cancel(kept[2].id, "")).state is JobState.DONE
        assert before - await results(bench) > RAW
        with pytest.raises(NotFound):
            await jobs.get(kept[2].id, "")
        assert not await bench.front.client.exists(bench.keys.out(kept[2].id, 0))
        with pytest.raises(TooLarge):
            await jobs.submit(a_job(*range(6), size=SIZE))


async def test_the_bound_of_results_is_half_of_a_small_servers_memory(bench: Bench, server: Server) -> None:
    admin = server.client()
    admin.config_set("maxmemory", 40_000_000)
    bench.front.capacity = await capacity(bench.front.steady)
    assert bench.front.capacity.result_limit(bench.settings) == 20_000_000
    admin.close()


async def test_results_are_kept_for_their_time_and_not_for_twice_of_it(bench: Bench) -> None:
    jobs = with_settings(bench, job_ttl_s=60.0)
    async with bench.work(Adder()):
        job = await finished(jobs, *range(5))

        async def for_a_minute() -> bool:
            times = [await bench.front.client.pttl(bench.keys.out(job.id, k)) for k in range(4)]
            return all(0 < milliseconds <= 60_000 for milliseconds in times)

        await until(for_a_minute)  # the worker says so after the last answer is in


async def test_results_whose_time_is_over_are_counted_no_more(bench: Bench) -> None:
    jobs = with_settings(bench, job_ttl_s=60.0)
    async with bench.work(Adder()):
        await finished(jobs, 1, 2, 3)
        await bench.front.client.zadd(bench.keys.kept, {k: 1 for k, _ in await _kept(bench)})
        await finished(jobs, 4, 5)
        assert len(await _kept(bench)) == 1


async def _kept(bench: Bench) -> list[tuple[bytes, float]]:
    rows: list[tuple[bytes, float]] = await bench.front.client.zrange(bench.keys.kept, 0, -1, withscores=True)
    return rows


async def test_what_an_older_release_ended_is_reckoned_when_room_is_needed(bench: Bench) -> None:
    """A worker of c8bbcd6 publishes an answer and says nothing of the room that was held for it."""
    jobs, room = with_settings(bench, max_result_bytes=4 * RAW), 2 * RAW
    redis = bench.front.client
    await redis.hset(bench.keys.results, mapping={"gone": room, "old": room, "sum": 2 * room})
    await redis.hset(bench.keys.job("old"), mapping={"s": "done", "n": 2, "f": "", "c": ""})
    await redis.pexpire(bench.keys.job("old"), 60_000)
    await redis.set(bench.keys.out("old", 0), b"x" * 100)
    async with bench.work(Adder()):
        await finished(jobs, 1, 2)
    counted = await redis.hgetall(bench.keys.results)
    assert b"gone" not in counted
    assert int(counted[b"old"]) == RECORD_BYTES + 100
    assert (await redis.zscore(bench.keys.kept, "old")) is not None


async def test_a_job_that_fails_leaves_none_of_its_results_and_none_of_its_items(bench: Bench) -> None:
    jobs, broken = with_settings(bench, max_batch=1, max_deliveries=1), Adder()
    broken.error = lambda request: Internal("x") if request.previous.pixels[1, 1, 0] == 3 else None
    job = a_job(1, 2, 3, 4, 5, 6, 7, 8)
    await until(lambda: bench.front.readiness().reason == "starting")
    await jobs.submit(job)
    async with bench.work(broken):
        assert await ended(jobs, job.id) is JobState.FAILED

        async def gone() -> bool:
            return not [key async for key in bench.front.client.scan_iter(match="*}:o:*")]

        await until(gone)
    assert (await load(bench))["items"] == 0
    assert await results(bench) == RECORD_BYTES
    with pytest.raises(ServiceError, match="given up"):
        await jobs.result(job.id, "", 0)


async def test_a_withdrawn_job_leaves_none_of_its_results(bench: Bench) -> None:
    jobs, slow = jobs_of(bench), Adder()
    job = a_job(1, 2, 3)
    async with bench.work(slow):
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        slow.gate = asyncio.Event()
        second = a_job(1, 2, 3)
        await jobs.submit(second)
        await until(lambda: slow.running == 2)
        await jobs.cancel(second.id, "")
        await until(lambda: slow.running == 0)
        assert bench.count("dmvfn_redis_lease_lost_total") == 0
    assert not await bench.front.client.exists(bench.keys.out(second.id, 0))


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_mixture_everything_is_back_at_zero_and_nothing_is_lost_or_doubled(
    bench: Bench, seed: int
) -> None:
    rng = random.Random(seed)
    jobs = with_settings(bench, max_deliveries=3, lease_ms=300, max_client_items=40)
    traffic = Traffic(bench, jobs, rng)
    async with bench.work(Faulty(rng)), bench.work(Faulty(rng)):
        for _ in range(60):
            await traffic.anything()
            await asyncio.sleep(rng.random() * 0.01)
        outcomes = await asyncio.gather(*traffic.calls, return_exceptions=True)
        assert all(isinstance(one, (PredictResult, ServiceError, asyncio.CancelledError)) for one in outcomes)
        assert await answered(traffic) > 0

        async def nothing() -> bool:
            return all(value == 0 for value in (await load(bench)).values())

        await until(nothing)
        for job in traffic.ours:
            if await _there(bench, job):
                await jobs.cancel(job.id, job.client)
        assert not await bench.front.client.exists(bench.keys.results, bench.keys.clients, bench.keys.kept)
        assert not [key async for key in bench.front.client.scan_iter(match="*}:[so]:*")]


async def answered(traffic: Traffic) -> int:
    """Waits for all jobs; how many results there are, each of them its own question's."""
    count = 0
    for job in traffic.ours:
        if not await _there(traffic.bench, job):
            continue
        if await ended_of(traffic.jobs, job) is JobState.DONE:
            for k in range(job.items):
                told = await traffic.jobs.result(job.id, job.client, k)
                assert (told.steps[0].frame.pixels == job.frames[k].pixels + job.frames[k + 1].pixels).all()
                count += 1
    return count


async def ended_of(jobs: RedisJobs, job: NewJob) -> JobState:
    view = await jobs.get(job.id, job.client)
    while not view.state.final:
        view = await jobs.changed(view, job.client, 5)
    return view.state


async def _there(bench: Bench, job: NewJob) -> bool:
    return bool(await bench.front.client.exists(bench.keys.job(job.id)))


class Faulty(Adder):
    """Fails now and then, of every kind that may pass."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        from service.core.errors import Unavailable

        def error(request: PredictRequest) -> ServiceError | None:
            return rng.choices(
                [None, Internal("x"), Unavailable("x", reason="out_of_memory"), TooLarge("x")], [30, 2, 1, 1]
            )[0]

        self.error = error

    async def predict(self, request: PredictRequest) -> PredictResult:
        await asyncio.sleep(0.002)
        return await super().predict(request)


@dataclasses.dataclass
class Traffic:
    """What was begun so far, and how more of it is done."""

    bench: Bench
    jobs: RedisJobs
    rng: random.Random
    ours: list[NewJob] = dataclasses.field(default_factory=list)
    calls: list[asyncio.Task[PredictResult]] = dataclasses.field(default_factory=list)

    async def submit(self) -> None:
        values = [self.rng.randrange(100) for _ in range(self.rng.randint(2, 6))]
        job = of_client(self.rng.choice(["", "ann", "bob"]), *values)
        with contextlib.suppress(QueueFull, ClientLimit):
            await self.jobs.submit(job)
            self.ours.append(job)

    async def call(self) -> None:
        request = PredictRequest("c", frame(self.rng.randrange(100)), frame(1))
        self.calls.append(asyncio.create_task(self.bench.engine.predict(request)))

    async def leave(self) -> None:
        if self.calls:
            self.rng.choice(self.calls).cancel()

    async def delete(self) -> None:
        if self.ours:
            job = self.rng.choice(self.ours)
            with contextlib.suppress(NotFound):
                await self.jobs.cancel(job.id, job.client)

    async def anything(self) -> None:
        await self.rng.choice([self.submit, self.submit, self.call, self.call, self.leave, self.delete])()
