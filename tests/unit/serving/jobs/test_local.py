"""What only jobs of this process do; tests/unit/rest/routes/test_jobs.py tests what they share with jobs in Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import InvalidRequest, NotFound, QueueFull, ServiceError, TooLarge, Unavailable
from service.core.types import Frame, Options, PredictRequest
from service.serving.jobs import local
from service.serving.jobs.job import LISTED, JobState, NewJob, job_id
from service.serving.jobs.local import AT_ONCE, MEMORY_TRIES, LocalJobs
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.measured import UpperBounds
from tests.unit.distributed.conftest import until
from tests.unit.distributed.engines import Adder, frame


def a_job(*values: int) -> NewJob:
    return NewJob(job_id("", None), "", tuple(map(frame, values)), Options(), "print")


def jobs_over(engine: Adder, **settings: object) -> LocalJobs:
    return LocalJobs(Settings(**settings), engine, Metrics(CollectorRegistry()))  # type: ignore[arg-type]


async def ended(jobs: LocalJobs, job: str) -> JobState:
    view = await jobs.get(job, "")
    while not view.state.final:
        view = await jobs.changed(view, "", 10)
    return view.state


async def test_items_and_bytes_of_jobs_are_bounded() -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine, max_queue_items=3, max_queue_bytes=30_000)
    with pytest.raises(TooLarge):
        await jobs.submit(a_job(*range(5)))
    await jobs.submit(a_job(1, 2, 3))
    with pytest.raises(QueueFull):
        await jobs.submit(a_job(1, 2, 3))
    with pytest.raises(QueueFull, match="bytes"):
        await jobs.submit(a_job(1, 2))
    large = NewJob(job_id("", None), "", (Frame(np.zeros((64, 96, 3), np.uint8)),) * 2, Options(), "")
    with pytest.raises(TooLarge, match="bytes"):
        await jobs.submit(large)
    long = dataclasses.replace(a_job(1, 2), options=Options(steps=5))  # what comes out counts, too
    with pytest.raises(TooLarge, match="bytes"):
        await jobs.submit(long)
    await jobs.close()


async def test_results_that_were_fetched_make_room_and_others_do_not() -> None:
    jobs = jobs_over(Adder(), max_queue_bytes=30_000)
    first, second = a_job(1, 2, 3), a_job(4, 5, 6)
    await jobs.submit(first)
    assert await ended(jobs, first.id) is JobState.DONE
    await jobs.result(first.id, "", 0)
    with pytest.raises(QueueFull, match="fetched"):
        await jobs.submit(second)
    await jobs.result(first.id, "", 1)
    await jobs.submit(second)
    assert await ended(jobs, second.id) is JobState.DONE
    with pytest.raises(NotFound):
        await jobs.get(first.id, "")


async def test_a_job_waits_for_its_turn_and_for_room_in_the_engine() -> None:
    engine = Adder()
    refusals = [QueueFull("full", retry_after=0.01), Unavailable("starting", retry_after=0.01)]

    def refuse(request: PredictRequest) -> ServiceError | None:
        return refusals.pop() if refusals else None

    engine.error = refuse
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    job = a_job(*range(AT_ONCE + 5))
    await jobs.submit(job)
    await until(lambda: engine.running == AT_ONCE)
    engine.gate.set()
    assert await ended(jobs, job.id) is JobState.DONE
    assert engine.peak == AT_ONCE
    assert (refusals, len(engine.seen)) == ([], AT_ONCE + 4 + 2)


async def test_one_failed_item_fails_its_job_with_its_error() -> None:
    engine = Adder()
    engine.error = lambda request: InvalidRequest("no", field="steps")
    jobs = jobs_over(engine)
    job = a_job(1, 2, 3)
    await jobs.submit(job)
    assert await ended(jobs, job.id) is JobState.FAILED
    with pytest.raises(InvalidRequest) as caught:
        await jobs.result(job.id, "", 0)
    assert caught.value.field == "steps"


async def test_a_place_in_the_queue_counts_the_items_before_it() -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    await jobs.submit(a_job(*range(AT_ONCE + 1)))
    await until(lambda: engine.running == AT_ONCE)
    second, third = a_job(1, 2, 3), a_job(1, 2)
    await jobs.submit(second)
    await jobs.submit(third)
    assert [(await jobs.get(job.id, "")).position for job in (second, third)] == [0, 2]
    await jobs.close()


async def test_an_old_job_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    jobs = jobs_over(Adder(), job_ttl_s=60.0)
    job = a_job(1, 2)
    await jobs.submit(job)
    assert await ended(jobs, job.id) is JobState.DONE
    now += 59.0
    assert (await jobs.get(job.id, "")).state is JobState.DONE
    now += 2.0
    with pytest.raises(NotFound):
        await jobs.get(job.id, "")


async def test_a_process_that_ends_takes_no_more_jobs() -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    await jobs.submit(a_job(1, 2))
    await until(lambda: engine.running == 1)
    await jobs.close()
    assert engine.running == 0
    with pytest.raises(Unavailable):
        await jobs.submit(a_job(1, 2))


async def test_a_job_that_does_not_fit_the_memory_fails_soon_and_holds_up_nobody() -> None:
    engine = Adder()

    def refuse(request: PredictRequest) -> ServiceError | None:
        large = request.previous.height == 64
        return Unavailable("no memory", reason="out_of_memory", retry_after=0.02) if large else None

    engine.error = refuse
    jobs = jobs_over(engine)
    large = NewJob(job_id("", None), "", (Frame(np.zeros((64, 64, 3), np.uint8)),) * (AT_ONCE + 2), Options(), "")
    small = a_job(1, 2)
    await jobs.submit(large)
    await asyncio.sleep(0)
    await jobs.submit(small)
    assert await ended(jobs, small.id) is JobState.DONE
    async with asyncio.timeout(60):
        assert await ended(jobs, large.id) is JobState.FAILED
    failure = (await jobs.get(large.id, "")).failure
    assert failure is not None
    assert failure.reason == "out_of_memory"
    assert sum(request.previous.height == 64 for request in engine.seen) <= (AT_ONCE + 1) * MEMORY_TRIES
    await jobs.close()


def held_by(holder: str, *values: int) -> NewJob:
    return dataclasses.replace(a_job(*values), client=holder, holder=holder)


async def test_unfetched_results_of_one_caller_make_room_for_another_one() -> None:
    jobs = jobs_over(Adder(), max_queue_bytes=60_000)
    alice = [held_by("alice", 1, 2, 3) for _ in range(4)]
    accepted = []
    for job in alice:
        try:
            await jobs.submit(job)
        except QueueFull:
            break
        accepted.append(job)
        while not (await jobs.get(job.id, "alice")).state.final:
            await asyncio.sleep(0)
    assert 1 < len(accepted) < 4, "alice fills the store"
    bob = held_by("bob", 1, 2, 3)
    await jobs.submit(bob)
    with pytest.raises(NotFound):
        await jobs.get(accepted[0].id, "alice")  # the oldest went
    assert (await jobs.get(accepted[-1].id, "alice")).state is JobState.DONE
    await jobs.close()


async def test_a_finished_job_that_is_withdrawn_gives_its_bytes_back() -> None:
    jobs = jobs_over(Adder(), max_queue_bytes=30_000)
    first, second = a_job(1, 2, 3), a_job(4, 5, 6)
    await jobs.submit(first)
    assert await ended(jobs, first.id) is JobState.DONE
    with pytest.raises(QueueFull):
        await jobs.submit(second)
    assert (await jobs.cancel(first.id, "")).state is JobState.DONE
    with pytest.raises(NotFound):
        await jobs.get(first.id, "")
    await jobs.submit(second)
    assert await ended(jobs, second.id) is JobState.DONE
    await jobs.cancel(second.id, "")
    assert (len(jobs._kept), jobs._kept.nbytes, jobs._kept.open_items) == (0, 0, 0)


async def test_jobs_are_finished_within_the_grace() -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    job = a_job(1, 2, 3)
    await jobs.submit(job)
    draining = asyncio.create_task(jobs.drain(60))
    await asyncio.sleep(0.01)
    assert not draining.done()
    engine.gate.set()
    assert await draining
    assert (await jobs.get(job.id, "")).state is JobState.DONE
    with pytest.raises(Unavailable):
        await jobs.submit(a_job(1, 2))


async def test_a_job_that_the_grace_was_too_short_for_fails_and_says_why() -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    job = a_job(1, 2, 3)
    await jobs.submit(job)
    await until(lambda: engine.running == 2)
    watching = asyncio.create_task(jobs.changed(await jobs.get(job.id, ""), "", 60))
    await asyncio.sleep(0)
    assert not await jobs.drain(0.05)
    seen = await watching
    assert seen.failure is not None
    assert (seen.state, seen.failure.reason) == (JobState.FAILED, "draining")
    assert engine.running == 0


@pytest.mark.measured
async def test_what_is_asked_of_a_full_store_takes_no_longer_than_of_an_empty_one() -> None:
    jobs = jobs_over(Adder())
    one = a_job(1, 2)
    await jobs.submit(one)
    assert await ended(jobs, one.id) is JobState.DONE
    kept = jobs._kept.get(one.id)
    assert kept is not None
    for k in range(20_000):
        view = dataclasses.replace(kept.view, id=str(k), state=JobState.QUEUED, done=0)
        copy = dataclasses.replace(kept, view=view, results={})
        jobs._kept.add(copy)
        copy.view = dataclasses.replace(view, state=JobState.DONE, done=1)
        jobs._kept.moved(copy, view)
        jobs._kept.ended(copy, time.monotonic())
    bounds = UpperBounds(thread_s=0.5)  # each looked through all: 2 s and more
    while bounds.unmet():
        began = time.thread_time()
        for _ in range(1000):
            await jobs.get(one.id, "")
            assert await jobs.of_client("nobody") == []
        bounds.measured(thread_s=time.thread_time() - began)
    listed = await jobs.of_client("")
    assert [view.id for view in listed] == [str(k) for k in reversed(range(20_000 - LISTED, 20_000))]
    await jobs.close()


async def test_a_job_deleted_while_it_runs_leaves_the_callers_next_one_its_turns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Adder()
    engine.gate = asyncio.Event()
    jobs = jobs_over(engine)
    # More than run at once, so that some run and some wait for their turn when it is deleted.
    deleted, next_one = a_job(*range(2 * AT_ONCE)), a_job(1, 2, 3)
    await jobs.submit(deleted)
    await jobs.submit(next_one)
    await until(lambda: engine.running == AT_ONCE)
    assert (await jobs.cancel(deleted.id, "")).state is JobState.CANCELLED
    engine.gate.set()
    async with asyncio.timeout(60):
        assert await ended(jobs, next_one.id) is JobState.DONE
    assert [record.message for record in caplog.records] == []
    await jobs.close()
