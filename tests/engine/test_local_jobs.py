"""What only jobs of this process do; what they share with jobs in Redis is tested in tests/rest/test_jobs.py."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import InvalidRequest, NotFound, QueueFull, ServiceError, TooLarge, Unavailable
from service.core.job import JobState, NewJob, job_id
from service.core.types import Frame, Options, PredictRequest
from service.engine.local_jobs import AT_ONCE, LocalJobs
from service.metrics import Metrics
from service.settings import Settings
from tests.jobs.conftest import until
from tests.jobs.engines import Adder, frame


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


async def test_an_old_job_is_forgotten() -> None:
    jobs = jobs_over(Adder(), job_ttl_s=1.0)
    job = a_job(1, 2)
    await jobs.submit(job)
    assert await ended(jobs, job.id) is JobState.DONE

    async def gone() -> bool:
        try:
            await jobs.get(job.id, "")
        except NotFound:
            return True
        return False

    await until(gone)


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


async def test_a_job_that_fits_no_memory_ends_and_does_not_hold_the_places_of_others() -> None:
    engine = Adder()

    def small(request: PredictRequest) -> ServiceError | None:
        if request.previous.pixels[1, 1, 0] < 100:
            return Unavailable("not enough memory", reason="out_of_memory", retry_after=0.2)
        return None

    engine.error = small
    jobs = jobs_over(engine)
    large, other = a_job(*range(AT_ONCE + 1)), a_job(200, 1)
    await jobs.submit(large)
    await jobs.submit(other)
    await asyncio.sleep(0.05)
    assert (await jobs.get(other.id, "")).state is JobState.DONE
    assert await ended(jobs, large.id) is JobState.FAILED
    failure = (await jobs.get(large.id, "")).failure
    assert failure is not None
    assert failure.reason == "out_of_memory"
    await jobs.close()


async def test_to_delete_a_job_that_has_ended_removes_it() -> None:
    jobs, job = jobs_over(Adder()), a_job(1, 2)
    await jobs.submit(job)
    assert await ended(jobs, job.id) is JobState.DONE
    assert (await jobs.cancel(job.id, "")).state is JobState.DONE
    with pytest.raises(NotFound):
        await jobs.get(job.id, "")
    await jobs.close()
