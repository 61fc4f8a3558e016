"""Jobs whose frames and results are in a store elsewhere: a folder here; `make object-store` asks a real S3 server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.cli import jobs as jobs_cli
from service.core.errors import Internal, NotFound, QueueFull, Unavailable
from service.core.types import Frame, Options, PredictRequest, PredictResult
from service.distributed.broker import blob_store
from service.distributed.broker.blob_store import BlobStore, FolderBlobs, StoreUnavailable
from service.distributed.broker.job_objects import LARGE, read_reference
from service.distributed.broker.stored_objects import StoredObjects
from service.distributed.frontend.job_store import RedisJobs
from service.serving.jobs.job import JobState, NewJob, job_id
from service.settings import Settings
from tests.unit.distributed.broker.test_blob_store import s3_settings
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder, answer
from tests.unit.distributed.engines import frame as small_frame
from tests.unit.distributed.servers import Server

#: As deployed in the folder's tests and in those on S3; `without` is a process that has no store.
SIDE = 192


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Settings:
    elsewhere = s3_settings() if request.param == "s3" else Settings(object_store=f"file://{tmp_path}")
    return elsewhere.replace(engine="redis", redis_url=server.url, lease_ms=600, shutdown_grace_s=5.0)


def noise(seed: int) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def a_job(*seeds: int, key: str | None = None) -> NewJob:
    return NewJob(job_id("", key), "", tuple(map(noise, seeds)), Options(), "print")


async def stored(bench: Bench, job: str) -> list[str]:
    """The names of a job's objects, but for what makes them unique."""
    blobs = blob_store.blob_store(bench.settings)
    assert blobs is not None
    names = [name.partition("/")[2] for name in await blobs.names(job)]
    return sorted(f"{name[0]}{name[-1]}" if name[0] == "f" else name.partition("-")[0] for name in names)


async def ended(jobs: RedisJobs, job: str) -> JobState:
    async with asyncio.timeout(60):
        view = await jobs.get(job, "")
        while not view.state.final:
            view = await jobs.changed(view, "", 10)
    return view.state


async def known(bench: Bench) -> None:
    """Let the front end see a worker, so that its store is known."""
    async with bench.work(Adder()):
        await until(lambda: _sees(bench, worker_store(bench)))
    await bench.front.client.delete(bench.keys.idle)  # it would count as one that may take a share for a while


async def test_frames_and_results_are_in_the_store_and_go_with_the_job(bench: Bench) -> None:
    await known(bench)
    jobs, job = RedisJobs(bench.settings, bench.front), a_job(1, 2, 3)
    view, _ = await jobs.submit(job)
    assert (view.items, await stored(bench, job.id)) == (2, ["f0", "f1", "f2"])
    assert int(await bench.front.client.hget(bench.keys.load, "bytes")) < LARGE
    assert int(await bench.front.client.hget(bench.keys.results, "sum")) < 3 * LARGE
    async with bench.work(Adder()):
        assert await ended(jobs, job.id) is JobState.DONE
    await until(lambda: _has(bench, job.id, ["r0", "r1"]))
    assert int(await bench.front.client.hget(bench.keys.results, job.id)) < LARGE
    for item in range(2):
        request = PredictRequest(job.id, job.frames[item], job.frames[item + 1])
        result = await jobs.result(job.id, "", item)
        assert (result.steps[0].frame.pixels == answer(request).steps[0].frame.pixels).all()
    await jobs.cancel(job.id, "")
    assert await stored(bench, job.id) == []
    assert await bench.front.client.zcard(bench.keys.clip_objects) == 0
    await until(bench.empty)


async def _has(bench: Bench, job: str, names: list[str]) -> bool:
    return await stored(bench, job) == names


async def test_what_is_small_stays_in_redis_and_so_does_what_a_caller_waits_for(bench: Bench) -> None:
    await known(bench)
    jobs = RedisJobs(bench.settings, bench.front)
    job = dataclasses.replace(a_job(1, 2), frames=(small_frame(1), small_frame(2)))
    async with bench.work(Adder()):
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        assert (await jobs.result(job.id, "", 0)).steps
        await bench.engine.predict(PredictRequest("call", noise(1), noise(2)))
    assert await bench.front.client.zcard(bench.keys.clip_objects) == 0


async def test_a_refused_or_repeated_job_leaves_only_the_accepted_ones_frames(bench: Bench) -> None:
    await known(bench)
    jobs, job = RedisJobs(bench.settings, bench.front), a_job(1, 2, key="once")
    assert (await jobs.submit(job))[1]
    assert not (await jobs.submit(job))[1]
    assert await stored(bench, job.id) == ["f0", "f1"]
    other = a_job(3, 4)
    bench.front.settings = bench.settings.replace(max_queue_items=1)
    with pytest.raises(QueueFull):
        await jobs.submit(other)
    assert await stored(bench, other.id) == []
    async with bench.work(Adder()):
        assert await ended(jobs, job.id) is JobState.DONE


async def test_a_worker_without_the_store_leaves_the_job_to_one_with_it(bench: Bench) -> None:
    await known(bench)
    jobs, job, unable = RedisJobs(bench.settings, bench.front), a_job(1, 2), Adder()
    without = bench.settings.replace(object_store="")
    await jobs.submit(job)
    async with bench.work(unable, without) as worker, bench.work(Adder()):
        await until(lambda: _sees(bench, "", worker_store(bench)))
        kept_here = a_job(3, 4)
        await jobs.submit(kept_here)
        assert [await ended(jobs, each.id) for each in (job, kept_here)] == [JobState.DONE] * 2
        assert (await jobs.result(job.id, "", 0)).steps
        assert job.id not in [request.id for request in unable.seen]
        assert worker is not None
    assert await stored(bench, kept_here.id) == []


async def test_a_worker_with_no_way_to_the_store_leaves_frames_in_redis(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    jobs, job = RedisJobs(bench.settings, bench.front), a_job(1, 2)
    async with bench.work(Adder(), bench.settings.replace(object_store=f"file://{tmp_path}/file/folder")):
        await until(lambda: "stay in Redis: the object store fails" in caplog.text)
        await until(lambda: _sees(bench, ""))
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
    assert await stored(bench, job.id) == []


async def _sees(bench: Bench, *stores: str) -> bool:
    await bench.front._look()
    return bench.front.announcements.stores == set(stores)


def worker_store(bench: Bench) -> str:
    return blob_store.store_name(bench.settings)


async def test_a_worker_waits_for_a_store_that_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await known(bench)
    jobs, job, failures = RedisJobs(bench.settings, bench.front), a_job(1, 2), 2
    await jobs.submit(job)
    kind: type[BlobStore] = type(blob_store.blob_store(bench.settings))  # type: ignore[assignment]
    get, put = kind.get, kind.put

    def failing() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreUnavailable("the object store fails", reason="object_store")

    async def get_late(self: BlobStore, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        failing()
        async for piece in get(self, name, start, stop):
            yield piece

    async def put_late(self: BlobStore, name: str, pieces: AsyncIterator[bytes]) -> None:
        failing()
        await put(self, name, pieces)

    monkeypatch.setattr(kind, "get", get_late)
    monkeypatch.setattr(kind, "put", put_late)
    slow = Adder()
    slow.gate = asyncio.Event()
    async with bench.work(slow):
        await until(lambda: slow.running == 1)
        assert failures < 0, "its frames were asked for again"
        failures = 2
        slow.gate.set()
        assert await ended(jobs, job.id) is JobState.DONE
    assert failures < 0, "its result was sent again"
    assert (await jobs.result(job.id, "", 0)).steps
    failures = 2
    with pytest.raises(Unavailable):
        await jobs.submit(a_job(5, 6))


async def test_a_dead_letter_keeps_its_frames_until_it_is_purged(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    await known(bench)
    jobs, job, broken = RedisJobs(bench.settings, bench.front), a_job(1, 2, 3), Adder()
    broken.error = lambda request: Internal("broken") if broken.seen else None
    await jobs.submit(job)
    async with bench.work(broken, bench.settings.replace(max_deliveries=1)):
        assert await ended(jobs, job.id) is JobState.FAILED
        await until(lambda: _has(bench, job.id, ["f0", "f1", "f2"]))
    command = ["replay", job.id]
    assert await asyncio.to_thread(jobs_cli.main, command, bench.settings) == 0
    async with bench.work(broken, bench.settings.replace(max_deliveries=1)):
        assert await ended(jobs, job.id) is JobState.FAILED
    assert await asyncio.to_thread(jobs_cli.main, ["purge", "--all"], bench.settings) == 0
    assert await stored(bench, job.id) == []
    assert "1 purged" in capsys.readouterr().out


async def test_an_answer_that_comes_after_its_sibling_s_dead_letter_takes_no_frames_along(bench: Bench) -> None:
    await known(bench)
    jobs, job, engine = RedisJobs(bench.settings, bench.front), a_job(1, 2, 3), Adder()
    sibling, predict = asyncio.Event(), engine.predict

    async def predicted(request: PredictRequest) -> PredictResult:
        if (request.previous.pixels == job.frames[0].pixels).all():
            await until(lambda: engine.running == 1)
            raise Internal("broken")
        engine.gate = sibling
        return await predict(request)

    engine.predict = predicted  # type: ignore[method-assign]
    await jobs.submit(job)
    async with bench.work(engine, bench.settings.replace(max_deliveries=1)):
        assert await ended(jobs, job.id) is JobState.FAILED
        sibling.set()
        await until(lambda: engine.running == 0)
    assert await stored(bench, job.id) == ["f0", "f1", "f2"]


async def test_what_is_withdrawn_while_it_runs_leaves_nothing(bench: Bench) -> None:
    await known(bench)
    jobs, job, slow = RedisJobs(bench.settings, bench.front), a_job(1, 2), Adder()
    slow.gate = asyncio.Event()
    await jobs.submit(job)
    async with bench.work(slow):
        await until(lambda: slow.running == 1)
        await jobs.cancel(job.id, "")
        slow.gate.set()
    assert await stored(bench, job.id) == []


async def test_frames_that_are_gone_end_the_job_and_a_result_that_is_gone_has_expired(bench: Bench) -> None:
    await known(bench)
    jobs, frameless, job = RedisJobs(bench.settings, bench.front), a_job(1, 2), a_job(3, 4)
    for each in (frameless, job):
        await jobs.submit(each)
    stored_objects = StoredObjects(blob_store.blob_store(bench.settings), bench.front.client, bench.keys)  # type: ignore[arg-type]
    await stored_objects.remove(frameless.id)
    async with bench.work(Adder()):
        assert [await ended(jobs, each.id) for each in (frameless, job)] == [JobState.FAILED, JobState.DONE]
    await stored_objects.remove(job.id)
    with pytest.raises(NotFound, match="expired"):
        await jobs.result(job.id, "", 0)


async def test_a_jobs_objects_are_swept_once_its_record_is_gone(bench: Bench) -> None:
    await known(bench)
    jobs, job = RedisJobs(bench.settings, bench.front), a_job(1, 2)
    await jobs.submit(job)
    objects = StoredObjects(blob_store.blob_store(bench.settings), bench.front.client, bench.keys)  # type: ignore[arg-type]
    await bench.front.client.zadd(bench.keys.clip_objects, {job.id: 1})
    await objects.sweep()
    assert await stored(bench, job.id) == ["f0", "f1"], "its record is there"
    await bench.front.client.delete(bench.keys.job(job.id))
    await objects.sweep()
    assert await stored(bench, job.id) == []


def test_only_a_small_map_with_a_name_and_a_size_is_a_reference() -> None:
    assert read_reference(b"") is None
    assert read_reference(b"x" * 600) is None
    assert read_reference(b"\x81\xa1v\x01") is None


async def test_two_objects_of_one_folder_may_come_and_go_at_once(tmp_path: Path) -> None:
    """The one that empties the folder must not take along what comes into it meanwhile."""
    blobs = FolderBlobs(tmp_path)

    async def piece() -> AsyncIterator[bytes]:
        yield b"x"

    for number in range(20):
        await blobs.put("job/one", piece())
        await asyncio.gather(blobs.remove(["job/one"]), blobs.put(f"job/two-{number}", piece()))
        assert f"job/two-{number}" in await blobs.names("job")
