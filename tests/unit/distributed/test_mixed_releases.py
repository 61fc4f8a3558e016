"""Two releases side by side: today's parts beside a stand-in for the next release, which says and asks for more."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs
import pytest

from service.core.bucket import Bucket
from service.core.errors import ServiceError, Unavailable
from service.core.interfaces import Readiness
from service.core.types import Method, Options, Priority
from service.distributed.broker import announcement, buckets, serialization
from service.distributed.frontend.announcements import Announcements
from service.distributed.frontend.queue_client import FRONT_MS, QueueClient
from service.distributed.frontend.webhooks import WebhookSender
from service.distributed.worker.runs import ItemRuns
from service.distributed.worker.worker import Worker
from service.engine.scheduling.cost_model import CostModel
from service.engine.scheduling.pricing import DeviceCosts
from service.serving.jobs.job import JobState
from service.telemetry.metrics import Background
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import MODEL, Adder, alike, answer, frame
from tests.unit.distributed.frontend.test_engine import request
from tests.unit.distributed.servers import Server
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of

TASK_FIELD = "denoise"  #: an option of the next release


def changed(data: bytes, **fields: object) -> bytes:
    """A value as another release writes it: with these fields, without those that are None."""
    value = {**msgpack.unpackb(data), **fields}
    return bytes(msgpack.packb({name: v for name, v in value.items() if v is not None}))


def failures(bench: Bench) -> dict[str, float]:
    """Of background work, without zeros."""
    counts = {task.value: bench.count("dmvfn_background_failures_total", task=task) for task in Background}
    return {name: count for name, count in counts.items() if count}


async def announce(bench: Bench, worker: str, info: bytes, seconds: float = 60) -> None:
    client = bench.front.client
    await client.zadd(bench.keys.workers, {worker: await bench.front.now_ms() + round(1000 * seconds)})
    await client.set(bench.keys.info(worker), info, px=round(1000 * seconds))


@asynccontextmanager
async def next_release(bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: Adder) -> AsyncIterator[Worker]:
    """A worker that knows TASK_FIELD: today's, whose own reader takes the option, and which announces more."""
    worker = Worker(bench.settings, engine, metrics())
    dialect = "2:next"

    def request_of(work: Any) -> Any:
        return ItemRuns._request(
            worker._runs, dataclasses.replace(work, task=changed(work.task, v=1, **{TASK_FIELD: None}))
        )

    monkeypatch.setattr(worker._runs, "_request", request_of)
    info = announcement.info_bytes(MODEL, 0.5)
    model = {**msgpack.unpackb(info)["model"], "backend": "triton"}
    monkeypatch.setattr(worker, "_about", lambda: changed(info, v=2, model=model, dialect=dialect, precision="fp8"))
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: bench.front.readiness().ready)
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)


def asks_more(monkeypatch: pytest.MonkeyPatch, **fields: object) -> Callable[[], None]:
    """Front ends ask as the next release's do, until the function returned is called."""
    task_bytes = serialization.task_bytes
    monkeypatch.setattr(
        serialization,
        "task_bytes",
        lambda *a, **notes: changed(task_bytes(*a, **notes), **(fields or {TASK_FIELD: "strong"})),
    )
    return lambda: monkeypatch.setattr(serialization, "task_bytes", task_bytes)


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "info",
    [
        changed(announcement.info_bytes(MODEL, 0.5), v=2),
        changed(announcement.info_bytes(MODEL, 0.5), model={"version": "n-2", "backend": "triton"}),
        changed(announcement.info_bytes(MODEL, 0.5), model=["another", "form"]),
        changed(announcement.info_bytes(MODEL, 0.5), cost={"pass": 0.1}),
        b"not msgpack at all",
        b"",
    ],
    ids=["version", "fields", "another model", "another cost", "garbage", "nothing"],
)
async def test_a_worker_of_another_release_does_not_silence_a_front_end(bench: Bench, info: bytes) -> None:
    async with bench.work(Adder()):
        await announce(bench, "0-next", info)
        await bench.front.client.delete(bench.keys.front(bench.front.name))

        async def lives() -> bool:
            return bool(await bench.front.client.exists(bench.keys.front(bench.front.name)))

        await until(lambda: bench.front.snapshot.workers == 2)
        await until(lives)
        assert alike(await bench.engine.predict(request(1)), answer(request(1)))
        assert failures(bench) == {}


def test_prices_are_the_mean_of_workers_and_stay_when_the_last_has_gone() -> None:
    """`redis_work_seconds`, by which fleets are scaled, was 0 for what came while no worker lived."""

    def announced(seconds: float) -> bytes:
        costs = DeviceCosts(CostModel((0.0,) * 9, 0.0, passes=seconds)).as_dict()
        return announcement.info_bytes(MODEL, 7.0, costs)

    bucket, read = Bucket.of(64, 64), Announcements().read
    prices = read([b"a", b"b"], [announced(1.0), announced(3.0)], announced(9.0))[1]
    assert prices.price(bucket, Options()).most == pytest.approx(2.0)
    prices = read([], [], announced(9.0))[1]
    assert prices.price(bucket, Options()).most == pytest.approx(9.0)
    before = read([b"a"], [announcement.info_bytes(MODEL, 0.5)], None)[1]
    assert before.price(bucket, Options(steps=2)).most == pytest.approx(0.5 * 2 * 64 * 64 / 1e6)
    odd = read([b"a"], [changed(announced(1.0), costs={"network": "another form"})], None)[1]
    assert odd.price(bucket, Options()).most == pytest.approx(7.0 * 64 * 64 / 1e6)


async def test_what_cannot_be_read_of_a_worker_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await announce(bench, "next", b"garbage")
    for _ in range(3):
        await bench.front._look()
    assert len([message for message in caplog.messages if "next" in message]) == 1


def test_a_model_keeps_all_that_is_text() -> None:
    texts = {field.name for field in dataclasses.fields(MODEL) if isinstance(getattr(MODEL, field.name), str)}
    assert set(announcement.MODEL_TEXTS) == texts - {"default_method", "head"}  # beside the model: `_read_methods`


def variants(data: bytes) -> list[bytes]:
    """A message with more fields, of a later version, without each field, and with another type in each."""
    value = msgpack.unpackb(data)
    more = [changed(data, extra={"a": [1]}), changed(data, v=2), changed(data, v=2**31)]
    less = [changed(data, **{name: None}) for name in value]
    kinds: list[object] = [7, "seven", [], {}, b"\x00", 1e400]
    others = [changed(data, **{name: other}) for name in value for other in kinds]
    cut = [data[:end] for end in range(0, min(len(data), 60), 7)]
    return [*more, *less, *others, *cut]


RESULT = serialization.result_bytes(answer(request(1)), compress=False)
READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "info": (announcement.info_bytes(MODEL, 0.5), announcement.read_info),
    "dialect": (announcement.info_bytes(MODEL, 0.5), announcement.read_dialect),
    "task": (serialization.task_bytes(Options(), Priority.LIVE, "ann", None), serialization.read_task),
    "result": (RESULT, lambda data: serialization.read_result(data, "r")),
    "failure": (changed(msgpack.packb({"v": 1, "code": "internal", "message": "m"})), serialization.read_failure),
}


@pytest.mark.parametrize("kind", READERS)
def test_every_message_of_another_release_is_read_or_unreadable_and_nothing_else(kind: str) -> None:
    data, read = READERS[kind]
    for variant in variants(data):
        with suppress(serialization.UnreadableEntry):
            read(variant)
    rng = random.Random(7)
    for _ in range(300):
        noisy = bytearray(data)
        for _ in range(3):
            noisy[rng.randrange(len(noisy))] = rng.randrange(256)
        with suppress(serialization.UnreadableEntry):
            read(bytes(noisy))


@pytest.mark.parametrize("kind", ["info", "result", "failure"])
def test_more_fields_and_a_later_version_change_nothing_of_what_is_known(kind: str) -> None:
    data, read = READERS[kind]
    before, after = read(data), read(changed(data, v=2, extra=[1]))
    if kind == "result":
        assert alike(before, after)  # type: ignore[arg-type]
    else:
        assert before == after


def test_an_option_that_is_not_known_is_never_ignored_and_notes_always_are() -> None:
    task, _ = READERS["task"]
    for variant in (
        changed(task, v=2),
        changed(task, denoise=1),
        changed(task, quality="a quality of the next release"),
        changed(task, steps="3"),
    ):
        with pytest.raises(serialization.UnreadableEntry):
            serialization.read_task(variant)
    assert serialization.read_task(changed(task, notes={"tenant": 3})) == serialization.read_task(task)
    assert serialization.read_task(changed(task, maps=None, trace=None, quality=None)) == serialization.read_task(task)


async def test_records_of_another_release_end_no_loop(bench: Bench) -> None:
    """A job's hash, an entry, a dead letter, hints and counters that this release knows only in part."""
    client, keys, jobs = bench.front.client, bench.keys, jobs_of(bench)
    async with bench.work(Adder()):
        await client.hset(
            keys.job("odd"),
            mapping={"n": "2", "s": "paused", "done": "0", "c": "", "fp": "", "f": "", "at": "0"}
            | {"x-new": "1", "hook": "http://127.0.0.1:1/"},
        )
        await client.hset(keys.job("husk"), "tries", 1)
        await client.zadd(keys.hooks, {"odd": 0, "husk": 0})
        for stream in (keys.events, keys.cancels, keys.reply(bench.front.name)):
            await client.xadd(stream, {"k": "no job"})
        stream = keys.stream(0, "32x48@1")
        await client.xgroup_create(stream, "workers", "0", mkstream=True)
        await client.xadd(stream, {"what": "an entry of the next release"})
        await client.sadd(keys.buckets, stream)
        await client.hset(keys.load, "items", "a few")
        await bench.front._look()
        assert (await jobs.get("odd", "")).state is JobState.RUNNING
        with pytest.raises(ServiceError, match="no job"):
            await jobs.get("husk", "")
        sender = WebhookSender(bench.settings, bench.front, bench.metrics)
        for name in ("odd", "husk"):
            await sender.deliver(name)
        sender.close()
        await client.hdel(keys.load, "items")
        job = a_job(1, 2)
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        assert alike(await bench.engine.predict(request(2)), answer(request(2)))
    assert failures(bench) == {}


# --- loops ----------------------------------------------------------------------------------------------------------


async def test_a_look_at_the_queue_that_fails_in_a_way_nobody_foresaw_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench.work(Adder()):
        look = QueueClient._look
        monkeypatch.setattr(QueueClient, "_look", lambda self: int("a defect"))
        await until(lambda: "redis_look" in failures(bench))
        monkeypatch.setattr(QueueClient, "_look", look)
        await until(lambda: bench.front.readiness().ready)
        assert alike(await bench.engine.predict(request(1)), answer(request(1)))
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


async def test_a_worker_whose_claims_fail_in_a_way_nobody_foresaw_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, job = jobs_of(bench), a_job(1, 2)
    async with bench.work(Adder()) as worker:
        claim, told = worker._due_work.claim, 0

        async def fail(most: int, **more: Any) -> Any:
            nonlocal told
            told += 1
            if told < 3:
                raise KeyError("x")
            return await claim(most, **more)

        monkeypatch.setattr(worker._due_work, "claim", fail)
        worker._leases._about = lambda: 1 / 0  # type: ignore[assignment,return-value]
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        await until(lambda: "worker_leases" in failures(bench))
    assert failures(bench)["worker_claims"] == 2


async def test_readiness_falls_when_the_sign_of_life_is_old_and_comes_back_by_itself(bench: Bench) -> None:
    async with bench.work(Adder()):
        now = time.monotonic
        bench.front.clock = lambda: now() + FRONT_MS / 2000 + 0.1
        assert bench.front.readiness() == Readiness(False, "pulse_lost")
        with pytest.raises(Unavailable, match="pulse_lost"):
            await bench.engine.predict(request(1))
        await until(lambda: bench.front.readiness().ready)


# --- what only another release can do -------------------------------------------------------------------------------


async def test_a_job_with_an_option_of_the_next_release_waits_for_its_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, today, tomorrow = jobs_of(bench), Adder(), Adder()
    async with bench.work(today):
        await announce(bench, "next", changed(announcement.info_bytes(MODEL, None), dialect="2:next"), 30)
        as_today = asks_more(monkeypatch)
        job, call = a_job(*range(19)), asyncio.create_task(bench.engine.predict(request(9)))
        await jobs.submit(job)
        as_today()
        # Neither run nor buried, nor in the way of what today's worker knows.
        for k in range(3):
            assert alike(await bench.engine.predict(request(k)), answer(request(k)))
        await asyncio.sleep(3 * bench.settings.lease_ms / 1000)
        assert not (await jobs.get(job.id, "")).state.final
        async with next_release(bench, monkeypatch, tomorrow):
            assert await ended(jobs, job.id) is JobState.DONE
            assert alike(await call, answer(request(9)))
    assert {r.id for r in today.seen}.isdisjoint({job.id, "r9"})
    assert len(tomorrow.seen) == 19
    await until(bench.empty)


@pytest.mark.measured
async def test_a_call_with_an_option_of_the_next_release_is_answered_within_its_deadline_by_its_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    today, tomorrow = Adder(), Adder()
    async with bench.work(today), bench.work(today), next_release(bench, monkeypatch, tomorrow):
        as_today = asks_more(monkeypatch)
        calls = [bench.engine.predict(request(k, deadline=time.monotonic() + 8)) for k in range(10)]
        answers = asyncio.gather(*calls)
        await until(lambda: len(bench.engine._calls) == 10)
        await answers
        as_today()
    assert len(tomorrow.seen) == 10
    assert today.seen == []


async def test_flow_waits_for_a_worker_that_has_methods_and_the_network_for_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, today, flow = Adder(), Adder(), Options(method=Method.FLOW)
    async with bench.work(before) as worker:
        read = worker._runs._request

        def request_of(work: Any) -> Any:
            if "method" in msgpack.unpackb(work.task):
                raise serialization.UnreadableEntry("a task with an option that this release does not know: method")
            return read(work)

        monkeypatch.setattr(worker._runs, "_request", request_of)
        await announce(bench, "today", changed(announcement.info_bytes(MODEL, None), dialect="1:today"), 30)
        call = asyncio.create_task(bench.engine.predict(request(9, options=flow)))
        by_network = request(1, options=Options(method=Method.DMVFN))
        assert alike(await bench.engine.predict(by_network), answer(by_network))
        await until(lambda: bool(worker._foreign.leases))
        assert not call.done()
        async with bench.work(today):
            assert alike(await call, answer(request(9)))
    assert [seen.options.method for seen in today.seen] == [Method.FLOW]
    assert [seen.options.method for seen in before.seen] == [Method.DMVFN]


async def test_what_no_live_worker_can_read_ends_with_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, today = jobs_of(bench), Adder()
    async with bench.work(today), bench.work(today):
        as_today = asks_more(monkeypatch)
        job = a_job(1, 2)
        await jobs.submit(job)
        with pytest.raises(Unavailable, match="denoise") as caught:
            await bench.engine.predict(request(1))
        as_today()
        assert caught.value.reason == "release"
        assert await ended(jobs, job.id) is JobState.FAILED
        failure = (await jobs.get(job.id, "")).failure
        assert failure is not None
        assert "denoise" in failure.message
        assert await bench.front.client.hget(bench.keys.load, "items") == b"0"
    assert today.seen == []


async def test_a_withdrawn_job_that_cannot_be_read_is_cleared_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, today = jobs_of(bench), Adder()
    async with bench.work(today) as worker:
        await announce(bench, "next", changed(announcement.info_bytes(MODEL, None), dialect="2:next"), 30)
        as_today = asks_more(monkeypatch, v=2)
        job = a_job(1, 2, 3)
        await jobs.submit(job)
        as_today()
        await until(lambda: len(worker._foreign.leases) == 2)
        await jobs.cancel(job.id, "")
        await until(bench.empty)


async def test_left_items_cost_no_hot_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    jobs = jobs_of(bench)
    settings = dataclasses.replace(bench.settings, lease_ms=2000)
    async with bench.work(Adder(), settings), bench.work(Adder(), settings):
        await announce(bench, "next", changed(announcement.info_bytes(MODEL, None), dialect="2:next"), 30)
        as_today = asks_more(monkeypatch)
        await jobs.submit(a_job(*range(30)))
        as_today()
        await asyncio.sleep(settings.lease_ms / 1000 + 1)  # tokens are passed on for a lease
        admin = server.client()
        counts: list[int] = []
        # On a busy machine passing on takes longer; a hot loop would never come to a quiet second.
        while len(counts) < 10 and (not counts or counts[-1] >= 400):
            before = admin.info("stats")["total_commands_processed"]
            await asyncio.sleep(1.0)
            counts.append(admin.info("stats")["total_commands_processed"] - before)
        assert counts[-1] < 400, counts
        admin.close()


async def test_a_front_end_that_pads_as_the_release_before_is_served_beside_todays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its streams of reduced scale have names of their own: padded to 16 whatever the scale."""

    def padded_as_before(bucket: Bucket) -> str:
        return f"{-(-48 // 16) * 16}x{-(-33 // 16) * 16}@{bucket.scale:g}"

    async with bench.work(Adder()):
        pass
    frames = frame(1, 48, 33), frame(2, 48, 33)
    ask = dataclasses.replace(request(1), previous=frames[0], current=frames[1], options=Options(scale=0.5))
    jobs, job = jobs_of(bench), a_job(1, 2, size=(48, 33), scale=0.5)
    with monkeypatch.context() as before:
        before.setattr(buckets, "name", padded_as_before)
        call_before = asyncio.create_task(bench.engine.predict(ask))
        await jobs.submit(job)
        await until(lambda: bench.engine._calls != {})
        await until(lambda: _streams(bench, 2))
    call_today = asyncio.create_task(bench.engine.predict(dataclasses.replace(ask, id="today")))
    await until(lambda: _streams(bench, 3))
    names = {name.rpartition(b":")[2] for name in await bench.front.client.smembers(bench.keys.buckets)}
    assert names == {b"48x48@0.5", b"64x64@0.5"}
    async with bench.work(Adder()):
        assert alike(await call_before, answer(ask))
        assert alike(await call_today, answer(dataclasses.replace(ask, id="today")))
        assert await ended(jobs, job.id) is JobState.DONE
    await until(bench.empty)


async def _streams(bench: Bench, count: int) -> bool:
    return int(await bench.front.client.scard(bench.keys.buckets)) == count
