from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.core.errors import Internal, ServiceError, Unavailable
from service.core.interfaces import Readiness
from service.core.types import Options, PredictRequest, Priority
from service.distributed.broker import scripts
from service.distributed.broker.client import connect, end, pipeline
from service.distributed.broker.keys import GROUP
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.worker import claims, due_work
from service.distributed.worker.claims import Claims
from service.distributed.worker.lapsed_items import LapsedItems
from service.distributed.worker.worker import Worker
from service.serving.jobs.job import JobState, NewJob, job_id
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.servers import Server


def a_job(*values: int, size: tuple[int, int] = (32, 48), scale: float = 1.0) -> NewJob:
    frames = tuple(frame(v, *size) for v in values)
    return NewJob(job_id("", None), "", frames, Options(scale=scale), "print")


def jobs_of(bench: Bench) -> RedisJobs:
    return RedisJobs(bench.settings, bench.front)


async def ended(jobs: RedisJobs, job: str) -> JobState:
    end = time.monotonic() + 60
    view = await jobs.get(job, "")
    while not view.state.final and time.monotonic() < end:
        view = await jobs.changed(view, "", 10)
    return view.state


async def vanish(worker: Worker, running: asyncio.Task[bool]) -> None:
    """As SIGKILL: nothing more is said to Redis, leases are left to run out."""
    for _, task in list(worker._runs._running.values()):
        task.cancel()
    worker._leases._stop.set()
    await end(running)


async def test_work_of_a_worker_that_vanished_is_done_by_another_one_item_at_a_time(bench: Bench) -> None:
    jobs, hung = jobs_of(bench), Adder()
    hung.gate = asyncio.Event()
    async with bench.work(Adder()):
        pass  # so that the model is known
    work = [a_job(k, 1) for k in range(5)]
    for job in work:
        await jobs.submit(job)
    dying = Worker(bench.settings, hung, metrics())
    running = asyncio.create_task(dying.run())
    await until(lambda: hung.running == 5)
    await vanish(dying, running)
    rescuer = Adder()
    async with bench.work(rescuer):
        assert [await ended(jobs, job.id) for job in work] == [JobState.DONE] * 5
    assert rescuer.peak == 1
    assert bench.count("dmvfn_redis_redeliveries_total", why="lapsed") == 5
    await until(bench.empty)


class RoundTrips:
    """Counts what the ways to Redis of a worker are asked, by the scripts and commands of each round trip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, ...]] = []
        names = {script.sha: script.name for script in vars(scripts).values() if isinstance(script, scripts.Script)}

        async def counted_call(client: Any, bound: scripts.ScriptCall, call: Any = scripts.call) -> Any:
            self.made.append((bound.script.name,))
            return await call(client, bound)

        async def counted_pipeline(client: Any, commands: Any, pipeline: Any = pipeline, **words: Any) -> Any:
            self.made.append(tuple(names.get(command[1], command[0]) for command in commands))
            return await pipeline(client, commands, **words)

        monkeypatch.setattr(scripts, "call", counted_call)
        for module in (claims, due_work):
            monkeypatch.setattr(module, "pipeline", counted_pipeline)

    def until_answered(self) -> list[tuple[str, ...]]:
        """The round trips up to the one that answers, and but for a front end's sign of life."""
        made = [trip for trip in self.made if trip != ("keep.lua",)]
        return made[: made.index(("SET", "settle.lua")) + 1]


async def test_an_idle_worker_begins_a_call_in_the_round_trip_that_claims_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_work, "SWEEP_S", 600.0)
    engine = Adder()
    async with bench.work(engine, bench.settings.replace(lease_ms=60_000)):
        trips = RoundTrips(monkeypatch)

        async def takes_two() -> bool:
            trips.made.clear()
            assert alike(await bench.engine.predict(request(2)), answer(request(2)))
            return trips.until_answered() == [("claim.lua", "begin.lua", "HMGET"), ("SET", "settle.lua")]

        # Not of a call that comes while the worker looks for more, after the one before.
        await until(takes_two)
        # Of what waits in two sizes neither is a guess's to claim.
        engine.gate = asyncio.Event()
        calls = [asyncio.create_task(bench.engine.predict(request(k, (32, 48 + 32 * k)))) for k in range(3)]
        await until(lambda: bool(engine.running))
        engine.gate.set()
        answers = await asyncio.gather(*calls)
        assert [len(result.steps) for result in answers] == [1, 1, 1]
    await until(bench.empty)


async def test_a_call_that_comes_as_a_resting_worker_stops_is_left_to_others(bench: Bench) -> None:
    """The lease is longer than the call waits: what the server had claimed for a worker that left would be lost."""
    settings = bench.settings.replace(lease_ms=600_000)
    async with bench.work(Adder(), settings):
        pass
    for k in range(3):
        async with bench.work(Adder(), settings) as worker:
            call = asyncio.create_task(bench.engine.predict(request(k)))
            await asyncio.sleep(0.002 * k)
            worker.stop()
        async with bench.work(Adder(), settings):
            assert alike(await call, answer(request(k)))
    await until(bench.empty)


async def test_a_resting_worker_tells_a_server_again_what_it_forgot(bench: Bench, server: Server) -> None:
    async with bench.work(Adder()):
        for k in range(3):
            client = server.client()
            client.script_flush()
            client.close()
            assert alike(await bench.engine.predict(request(k)), answer(request(k)))
    await until(bench.empty)


def request(number: int, size: tuple[int, int] = (32, 48)) -> PredictRequest:
    return PredictRequest(f"call {number}", frame(number, *size), frame(number + 1, *size))


async def test_what_lapsed_runs_before_other_jobs_and_calls_pass_both(bench: Bench) -> None:
    jobs, hung = jobs_of(bench), Adder()
    hung.gate = asyncio.Event()
    async with bench.work(Adder()):
        pass  # so that the model is known
    lapsed, fresh = [a_job(k, 1) for k in range(6)], [a_job(k, 1) for k in range(20)]
    for job in lapsed:
        await jobs.submit(job)
    dying = Worker(bench.settings, hung, metrics())
    running = asyncio.create_task(dying.run())
    await until(lambda: hung.running == 6)
    await vanish(dying, running)
    for job in fresh:
        await jobs.submit(job)
    rescuer = Adder()
    rescuer.gate = asyncio.Event()
    worker = Worker(bench.settings, rescuer, metrics())
    await asyncio.sleep(bench.settings.lease_ms / 1000)  # so that its first look finds what lapsed
    running = asyncio.create_task(worker.run())
    await until(lambda: rescuer.running == 1)
    call = asyncio.create_task(bench.engine.predict(PredictRequest("call", frame(9), frame(2))))
    await until(_is_queued(bench))
    rescuer.gate.set()
    await call
    assert [await ended(jobs, job.id) for job in lapsed + fresh] == [JobState.DONE] * 26
    worker.stop()
    await asyncio.wait_for(running, 60)
    order = [request.id for request in rescuer.seen]
    live = next(k for k, request in enumerate(rescuer.seen) if request.priority is Priority.LIVE)
    assert live == 1  # after the item that ran when it came
    assert order[:1] + order[2:7] == [job.id for job in lapsed]


def _is_queued(bench: Bench) -> Callable[[], Awaitable[bool]]:
    async def is_queued() -> bool:
        return bool(await bench.front.client.hget(bench.keys.load, "items") == b"27")

    return is_queued


async def test_what_a_worker_hands_back_in_good_order_need_not_run_alone(bench: Bench) -> None:
    hasty = dataclasses.replace(bench.settings, shutdown_grace_s=0.1, lease_ms=60_000)
    jobs, hung, next_one = jobs_of(bench), Adder(), Adder()
    hung.gate = next_one.gate = asyncio.Event()
    work = [a_job(k, 1) for k in range(5)]
    async with bench.work(hung, hasty):
        for job in work:
            await jobs.submit(job)
        await until(lambda: hung.running == 5)
    async with bench.work(next_one, hasty):
        await until(lambda: next_one.running == 5)
        next_one.gate.set()
        assert {await ended(jobs, job.id) for job in work} == {JobState.DONE}
    assert bench.count("dmvfn_redis_redeliveries_total", why="handed_back") == 5
    assert bench.count("dmvfn_redis_redeliveries_total", why="lapsed") == 0, "no worker was lost"


@pytest.mark.measured
async def test_a_long_run_keeps_its_lease(bench: Bench) -> None:
    jobs, slow, idle = jobs_of(bench), Adder(), Adder()
    slow.gate = asyncio.Event()
    async with bench.work(slow):
        job = a_job(1, 2)
        await jobs.submit(job)
        await until(lambda: slow.running == 1)
        async with bench.work(idle):
            # Three leases of silence would be enough to lose it.
            end = time.monotonic() + 3 * bench.settings.lease_ms / 1000
            await until(lambda: time.monotonic() > end)
            assert idle.seen == []
            slow.gate.set()
            assert await ended(jobs, job.id) is JobState.DONE
    assert bench.count("dmvfn_redis_redeliveries_total", why="lapsed") == 0


async def test_a_lease_lasts_as_long_as_its_holder_says_and_not_its_taker(bench: Bench) -> None:
    """As while a rolling update shortens leases: nothing is run twice for it."""
    long = dataclasses.replace(bench.settings, lease_ms=3000)
    short = dataclasses.replace(bench.settings, lease_ms=100)
    jobs, slow = jobs_of(bench), Adder()
    slow.gate = asyncio.Event()
    client = connect(short)
    lapsed = LapsedItems(short, client, Claims(short, client, "taker"))
    async with bench.work(slow, long):
        job = a_job(1, 2)
        await jobs.submit(job)
        await until(lambda: slow.running == 1)
        (stream,) = await client.smembers(bench.keys.buckets)

        async def is_past_a_short_lease() -> bool:
            return bool(await client.xpending_range(stream, GROUP, "-", "+", 1, idle=200))

        # Its holder renews once a second.
        await until(is_past_a_short_lease, 60)
        assert await lapsed.take([]) is None
        slow.gate.set()
        assert await ended(jobs, job.id) is JobState.DONE
    await client.aclose()


async def test_a_run_longer_than_allowed_loses_its_lease_and_is_stopped(bench: Bench) -> None:
    settings = dataclasses.replace(bench.settings, max_run_s=0.5, lease_ms=300, max_deliveries=1)
    jobs, hung = jobs_of(bench), Adder()
    hung.gate = asyncio.Event()
    async with bench.work(hung, settings):
        job = a_job(1, 2)
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.FAILED
        await until(lambda: hung.running == 0)
    assert bench.count("dmvfn_redis_lease_lost_total") == 1


async def test_an_answer_after_the_lease_was_lost_is_refused_and_counted(bench: Bench) -> None:
    settings = dataclasses.replace(bench.settings, lease_ms=60_000)
    jobs, slow = jobs_of(bench), Adder()
    slow.gate = asyncio.Event()
    job = a_job(3, 4)
    async with bench.work(slow, settings) as worker:
        await jobs.submit(job)
        await until(lambda: slow.running == 1)
        (stream,) = await bench.front.client.smembers(bench.keys.buckets)
        ((entry, _),) = await bench.front.client.xrange(stream)
        await bench.front.client.xclaim(stream, GROUP, "thief", 0, [entry])
        slow.gate.set()
        await until(lambda: bench.count("dmvfn_redis_lease_lost_total") == 1)
        assert (await jobs.get(job.id, "")).state is JobState.RUNNING
        # The thief falls silent too, for longer than a lease; then it is done after all.
        await bench.front.client.xclaim(stream, GROUP, "thief", 0, [entry], idle=2 * settings.lease_ms)
        worker._next_look = 0.0
        assert await ended(jobs, job.id) is JobState.DONE


async def test_an_item_that_always_fails_inside_is_run_again_and_then_buried(bench: Bench) -> None:
    jobs, broken = jobs_of(bench), Adder()

    def fail(request: PredictRequest) -> ServiceError | None:
        return Internal("a bug") if request.previous.pixels[1, 1, 0] == 13 else None

    broken.error = fail
    async with bench.work(broken):
        bad, good = a_job(13, 1), a_job(14, 1)
        for job in (bad, good):
            await jobs.submit(job)
        assert [await ended(jobs, bad.id), await ended(jobs, good.id)] == [JobState.FAILED, JobState.DONE]
        assert len([r for r in broken.seen if r.id == bad.id]) == bench.settings.max_deliveries
        assert await bench.front.client.xlen(bench.keys.dead) == 1
        with pytest.raises(Internal):
            await jobs.result(bad.id, "", 0)


async def test_a_device_that_is_lost_hands_its_work_to_the_next_and_ends_its_worker(bench: Bench) -> None:
    jobs, lost, sound = jobs_of(bench), Adder(), Adder()

    def fall(request: PredictRequest) -> ServiceError:
        lost.ready = Readiness(False, "device_lost")
        return Unavailable("the device is lost", reason="device_lost")

    lost.error = fall
    job = a_job(1, 2)
    async with bench.work(sound) as other:
        other.stop()
    await jobs.submit(job)
    assert await Worker(bench.settings, lost, metrics()).run() is False
    async with bench.work(sound):
        assert await ended(jobs, job.id) is JobState.DONE
    assert [request.id for request in sound.seen] == ["device-probe", job.id], "is this one sound?"


async def test_a_draining_worker_finishes_what_it_claimed_and_claims_no_more(bench: Bench, server: Server) -> None:
    jobs, slow = jobs_of(bench), Adder()
    slow.gate = asyncio.Event()
    first, second = a_job(1, 2), a_job(3, 4)
    async with bench.work(slow) as worker:
        await jobs.submit(first)
        await until(lambda: slow.running == 1)
        # No claim is under way, which could take the second.
        with server.client() as observer:
            await until(lambda: any(connection["cmd"] == "blpop" for connection in observer.client_list()))
        worker.stop()
        await jobs.submit(second)
        slow.gate.set()
    assert (await jobs.get(first.id, "")).state is JobState.DONE
    assert (await jobs.get(second.id, "")).state is JobState.QUEUED


async def test_what_a_drain_cannot_finish_in_time_is_handed_back_at_once_and_not_counted(bench: Bench) -> None:
    hasty = dataclasses.replace(bench.settings, shutdown_grace_s=0.1, lease_ms=60_000)
    jobs, hung = jobs_of(bench), Adder()
    hung.gate = asyncio.Event()
    job = a_job(1, 2)
    async with bench.work(hung, hasty):
        await jobs.submit(job)
        await until(lambda: hung.running == 1)
    async with bench.work(Adder(), hasty):
        assert await ended(jobs, job.id) is JobState.DONE  # long before that lease would have run out


async def test_a_claim_is_of_one_size_and_as_large_as_there_is_work(bench: Bench) -> None:
    jobs, engine = jobs_of(bench), Adder()
    await until(lambda: bench.front.readiness().reason == "starting")
    sizes = [(32, 48), (64, 48)]
    work = [a_job(k, 1, size=sizes[k % 2]) for k in range(12)]
    for job in work:
        await jobs.submit(job)
    async with bench.work(engine):
        assert {await ended(jobs, job.id) for job in work} == {JobState.DONE}
    shapes = [request.current.height for request in engine.seen]
    assert shapes in ([32] * 6 + [64] * 6, [64] * 6 + [32] * 6)
    label = {"bucket": "le_512x512"}
    assert bench.count("dmvfn_redis_claim_size_count", **label) == 2
    assert bench.count("dmvfn_redis_claim_size_sum", **label) == 12


async def test_a_full_worker_whose_runs_all_end_while_it_looks_for_lapsed_work_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, engine, full = jobs_of(bench), Adder(), 2 * bench.settings.max_batch
    engine.gate = gate = asyncio.Event()
    async with bench.work(engine) as worker:
        lapsed = worker._lapsed.take

        async def slow_look(*arguments: Any) -> Any:
            worker._next_look = 0.0  # another look in each turn, the one after the last claim too
            if len(worker._runs) == full:
                gate.set()
                await worker._runs.all_ended()
            return await lapsed(*arguments)

        monkeypatch.setattr(worker._lapsed, "take", slow_look)
        worker._next_look = 0.0
        work = [a_job(k, 1) for k in range(full + 1)]
        for job in work:
            await jobs.submit(job)
        assert {await ended(jobs, job.id) for job in work} == {JobState.DONE}


async def test_two_workers_share_the_work_and_answer_each_item_once(bench: Bench) -> None:
    one, two = Adder(), Adder()
    one.gate = two.gate = asyncio.Event()
    asked = [PredictRequest(str(k), frame(k), frame(2)) for k in range(2 * bench.settings.max_batch + 8)]
    async with bench.work(one), bench.work(two):
        calls = [asyncio.create_task(bench.engine.predict(q)) for q in asked]
        # What is left waits for the device that is free first.
        await until(lambda: one.running + two.running >= 2 * bench.settings.max_batch)
        one.gate.set()
        answers = await asyncio.gather(*calls)
    assert all(alike(a, answer(q)) for a, q in zip(answers, asked, strict=True))
    assert len(one.seen) + len(two.seen) == len(asked)
    assert min(len(one.seen), len(two.seen)) >= 8


async def test_a_crash_of_redis_loses_no_accepted_job(settings: Settings) -> None:
    from tests.unit.distributed.servers import running as serving

    with serving(None, "--appendonly", "yes", "--appendfsync", "always") as server:
        here = dataclasses.replace(settings, redis_url=server.url)
        from service.distributed.frontend.queue_client import QueueClient

        front = QueueClient(here)
        jobs = RedisJobs(here, front)
        await front.start()
        await until(lambda: front.readiness().reason == "starting")
        slow = Adder()
        slow.gate = asyncio.Event()
        worker = Worker(here, slow, metrics())
        running = asyncio.create_task(worker.run())
        work = [a_job(k, k + 1, k + 2) for k in range(10)]
        for job in work:
            await jobs.submit(job)
        await until(lambda: slow.running > 0)
        server.kill()
        slow.gate.set()  # answers come while nobody is there to take them
        await until(lambda: front.is_away)
        server.start()
        await until(lambda: front.readiness().ready)
        assert [await ended(jobs, job.id) for job in work] == [JobState.DONE] * 10
        worker.stop()
        await running
        await front.stop()


async def test_a_worker_whose_main_loop_stands_still_lets_its_leases_run_out(bench: Bench) -> None:
    jobs, stuck, rescuer = jobs_of(bench), Adder(), Adder()
    stuck.gate = asyncio.Event()
    job = a_job(1, 2)
    async with bench.work(stuck) as worker:
        await jobs.submit(job)
        await until(lambda: stuck.running == 1)
        # As a blocked loop does: the thread goes on, the beat does not.
        worker._leases.beat = lambda: None  # type: ignore[method-assign]
        async with bench.work(rescuer):
            assert await ended(jobs, job.id) is JobState.DONE
        assert len(rescuer.seen) == 1
        stuck.gate.set()


async def test_scripts_are_told_to_a_server_that_does_not_know_them(bench: Bench, server: Server) -> None:
    server.client().script_flush()
    assert (
        await scripts.call(
            bench.front.client, scripts.TAKE_WEBHOOK.bind(hooks=bench.keys.hooks, lease_ms=1, longest_ms=10**6)
        )
        is None
    )
