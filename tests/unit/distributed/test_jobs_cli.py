from __future__ import annotations

import asyncio

import pytest

from service.cli.jobs import main
from service.core.errors import Internal
from service.serving.jobs.job import JobState
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import running, shipped_acl
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of


async def command(bench: Bench, *words: str) -> int:
    return await asyncio.to_thread(main, words, bench.settings)


async def a_dead_job(bench: Bench) -> str:
    broken = Adder()
    broken.error = lambda request: Internal("a bug")
    job = a_job(1, 2)
    async with bench.work(broken):
        await jobs_of(bench).submit(job)
        assert await ended(jobs_of(bench), job.id) is JobState.FAILED
    return job.id


async def test_the_queue_is_listed_with_its_streams_and_workers(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    hung = Adder()
    hung.gate = asyncio.Event()
    async with bench.work(hung):
        job = a_job(1, 2, 3)
        await jobs_of(bench).submit(job)
        await until(lambda: hung.running == 2)
        assert await command(bench, "list") == 0
        hung.gate.set()
    shown = capsys.readouterr().out
    assert "items 2 " in shown
    assert "stream {dmvfn}:s:1:32x48@1  items 2  claimed 2" in shown
    assert "alive  model tiny-1" in shown


async def test_a_dead_letter_is_shown_inspected_and_replayed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    job = await a_dead_job(bench)
    assert await command(bench, "dead") == 0
    assert f"job {job}  item 0  runs {bench.settings.max_deliveries}" in capsys.readouterr().out
    assert await command(bench, "inspect", job) == 0
    shown = capsys.readouterr().out
    assert "state     failed" in shown
    assert "frames    2 kept" in shown
    assert "priority  batch" in shown
    assert await command(bench, "replay", job) == 0
    assert f"{job}  1 items queued" in capsys.readouterr().out
    async with bench.work(Adder()):
        assert await ended(jobs_of(bench), job) is JobState.DONE
    await until(bench.empty)
    assert await command(bench, "replay", job) == 1


async def test_a_purge_leaves_nothing_of_a_dead_letter(bench: Bench) -> None:
    job = await a_dead_job(bench)
    assert not await bench.empty()
    assert await command(bench, "purge", "--all") == 0
    assert await bench.empty()
    assert await command(bench, "purge", job) == 1
    assert await command(bench, "purge", "--all") == 0


async def test_a_job_is_cancelled_from_outside(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    await until(lambda: bench.front.readiness().reason == "starting")
    job = a_job(1, 2)
    await jobs_of(bench).submit(job)
    assert await command(bench, "cancel", job.id) == 0
    assert capsys.readouterr().out == "cancelled\n"
    assert (await jobs_of(bench).get(job.id, "")).state is JobState.CANCELLED
    assert await command(bench, "cancel", "nothing") == 1


def test_without_redis_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"], Settings()) == 2
    assert "DMVFN_REDIS_URL" in capsys.readouterr().err
    assert main(["list"], Settings(redis_url="unix:///nowhere/s")) == 4


def test_a_queue_that_the_acl_hides_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with running(acl=shipped_acl()) as redis:
        assert main(["list"], Settings(redis_url=redis.url)) == 0
        assert main(["list"], Settings(redis_url=redis.url, redis_queue="another")) == 4
    assert "redis refuses what queue 'another' was asked" in capsys.readouterr().err
