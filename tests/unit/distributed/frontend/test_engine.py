from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded, InvalidRequest, QueueFull, ServiceError, Unavailable
from service.core.interfaces import Readiness
from service.core.substitute import Substitute
from service.core.types import Options, PredictRequest, PredictResult, Quality
from service.distributed.broker import announcement, serialization
from service.distributed.broker.keys import GROUP
from service.distributed.frontend.announcements import Announcements
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.queue_client import PULSE_S, QueueClient
from service.engine.scheduling.admission import BUSY_TRIAL_S
from service.imaging import codec
from service.imaging.codec import ImageFormat
from service.serving.last_way import NeverLateEngine
from service.settings import Settings
from tests.unit.core.test_panning import scene
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import MODEL, Adder, alike, answer, frame
from tests.unit.distributed.servers import Server


def request(value: int, **more: object) -> PredictRequest:
    return PredictRequest(f"r{value}", frame(value), frame(1), **more)  # type: ignore[arg-type]


async def test_an_answer_over_redis_is_the_answer_of_the_engine_itself(bench: Bench) -> None:
    asked = request(7, options=Options(steps=3))
    async with bench.work(Adder()):
        assert alike(await bench.engine.predict(asked), answer(asked))


async def test_many_calls_each_get_their_own_answer_and_leave_nothing_behind(bench: Bench) -> None:
    asked = [request(k) for k in range(60)]
    async with bench.work(Adder()):
        answers = await asyncio.gather(*map(bench.engine.predict, asked))
        assert all(alike(a, answer(q)) for a, q in zip(answers, asked, strict=True))
        await until(bench.empty)
        assert not [key async for key in bench.front.client.scan_iter(match="*:j:*")]


async def test_an_error_of_the_worker_is_raised_here_with_all_its_words(bench: Bench) -> None:
    adder = Adder()
    adder.error = lambda r: InvalidRequest("not that", field="steps")
    async with bench.work(adder):
        with pytest.raises(InvalidRequest, match="not that") as caught:
            await bench.engine.predict(request(1))
    assert caught.value.field == "steps"


async def test_the_deadline_is_carried_and_work_past_it_is_not_run(bench: Bench) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        for seconds in (0.4, 4.0, 40.0):  # a busy machine may not bring it to the worker sooner
            deadline = time.monotonic() + seconds
            with pytest.raises(DeadlineExceeded):
                await bench.engine.predict(request(1, deadline=deadline))
            if adder.seen:
                break
        assert adder.seen[0].deadline is not None
        assert abs(adder.seen[0].deadline - deadline) < seconds / 2
        # Its caller is gone, so it is withdrawn from the device too.
        await until(lambda: adder.running == 0)
        await until(bench.empty)


async def test_an_adaptive_call_that_no_worker_answers_in_time_is_answered_without(bench: Bench) -> None:
    """Its place in the queue is given back, and no deadline is missed."""
    adder, instruments = Adder(), metrics()
    adder.gate = asyncio.Event()
    engine = QueuedEngine(bench.settings, bench.front, instruments)
    never_late = NeverLateEngine(engine, instruments)
    adaptive = Options(quality=Quality.ADAPTIVE)
    previous, current = scene(64, 96, 0, 0), scene(64, 96, 3, 1)
    async with bench.work(adder):
        for seconds in (0.3, 3.0, 30.0):  # a busy machine may not come to it sooner
            with contextlib.suppress(DeadlineExceeded):
                result = await never_late.predict(
                    PredictRequest("r", previous, current, adaptive, time.monotonic() + seconds)
                )
                break
        assert Substitute.of(result) in (Substitute.PANNED, Substitute.REPEATED)
        assert result.model_version == MODEL.version
        await until(bench.empty)
        adder.gate.set()
        result = await never_late.predict(PredictRequest("r", previous, current, adaptive, time.monotonic() + 60))
        assert not result.shortened, "a worker that is in time answers"
    assert instruments.registry.get_sample_value("dmvfn_deadline_missed_total", {"phase": "queue"}) is None
    await engine.close()


async def test_a_caller_who_leaves_withdraws_what_has_not_begun(bench: Bench) -> None:
    calls = [asyncio.create_task(bench.engine.predict(request(k))) for k in range(3)]
    await until(lambda: bench.front.readiness().reason == "starting")
    for call in calls:
        with pytest.raises(Unavailable):
            await call
    adder = Adder()
    async with bench.work(adder) as worker:
        worker.stop()
    left = asyncio.create_task(bench.engine.predict(request(9)))
    await until(lambda: bench.front.client is not None and len(bench.engine._calls) == 1)

    async def queued() -> bool:
        return bool(await bench.front.client.hget(bench.keys.load, "items") == b"1")

    await until(queued)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    await bench.engine.close()
    async with bench.work(adder):
        await until(bench.empty)
    assert adder.seen == []


async def test_a_full_queue_refuses_with_the_time_to_wait(bench: Bench, settings: Settings) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        calls = [asyncio.create_task(bench.engine.predict(request(k % 200))) for k in range(settings.max_queue_items)]

        async def full() -> bool:
            return int(await bench.front.client.hget(bench.keys.load, "items") or 0) == settings.max_queue_items

        await until(full)
        with pytest.raises(QueueFull) as caught:
            await bench.engine.predict(request(1))
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0.5
        adder.gate.set()
        assert len(await asyncio.gather(*calls)) == settings.max_queue_items
        await until(bench.empty)


async def test_readiness_falls_while_redis_is_away_and_waiting_calls_fail_at_once(bench: Bench, server: Server) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        call = asyncio.create_task(bench.engine.predict(request(1)))
        await until(lambda: adder.running == 1)
        server.kill()
        with pytest.raises(Unavailable) as caught:
            await call
        assert (caught.value.reason, bench.engine.readiness()) == ("queue_lost", Readiness(False, "queue_lost"))
        assert caught.value.retry_after is not None
        with pytest.raises(Unavailable):
            await bench.engine.predict(request(1))
        server.start()
        adder.gate.set()
        await until(lambda: bench.engine.readiness().ready)
        assert alike(await bench.engine.predict(request(2)), answer(request(2)))


async def test_a_full_redis_refuses_calls_and_takes_them_again_once_there_is_room(bench: Bench, server: Server) -> None:
    async with bench.work(Adder()):
        admin = server.client()
        admin.config_set("maxmemory", 1)
        await asyncio.sleep(2 * PULSE_S)
        with pytest.raises(QueueFull):
            await bench.engine.predict(request(1))
        admin.config_set("maxmemory", 0)
        admin.delete(bench.keys.front(bench.front.name))  # as if it had been full until the sign of life ran out
        await until(lambda: bool(admin.exists(bench.keys.front(bench.front.name))))
        assert alike(await bench.engine.predict(request(2)), answer(request(2)))
        admin.close()


async def test_to_look_at_a_large_queue_takes_few_round_trips(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sign of life waits for them: each a hundred milliseconds to a Redis far away."""
    async with bench.work(Adder()):
        # What is told of a worker, under many names; and an item claimed in each of many sizes.
        admin, keys = server.client(), bench.keys
        about = admin.get(keys.model) or b""
        for k in range(300):
            admin.zadd(keys.workers, {f"w{k}": 2**53})
            admin.set(keys.info(f"w{k}"), about)
            admin.xadd(f"{keys.buckets}:{k}", {"j": "x"})
            admin.xgroup_create(f"{keys.buckets}:{k}", GROUP, id="0")
            admin.xreadgroup(GROUP, "w", {f"{keys.buckets}:{k}": ">"})
            admin.sadd(keys.buckets, f"{keys.buckets}:{k}")
        sent: list[object] = []
        send = AbstractConnection.send_packed_command

        async def counted(self: AbstractConnection, *command: Any, **more: Any) -> None:
            sent.append(command)
            await send(self, *command, **more)

        front = QueueClient(bench.settings)
        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
        await front._look()
        monkeypatch.undo()
        assert (front.snapshot.workers, front.snapshot.leased) == (301, 300), "of all sizes, not of some"
        assert 5 <= len(sent) < 30, sent  # what the worker and the other front end said meanwhile included
        await front.stop()
        admin.flushall()
        admin.close()


async def test_a_front_end_that_finds_no_redis_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = QueueClient(Settings(redis_url=f"unix://{tmp_path / 'nobody'}"))
    await front.start()
    await until(lambda: bool(caplog.messages))
    await asyncio.sleep(0.3)  # further tries
    await front.stop()
    (said,) = caplog.messages
    assert said.startswith("redis is away: ")
    assert front.readiness() == Readiness(False, "queue_lost")


async def test_the_model_is_what_the_workers_publish(bench: Bench) -> None:
    assert bench.engine.readiness().ready is False
    async with bench.work(Adder()):
        assert bench.engine.model() == MODEL


async def test_the_model_is_told_anew_with_its_metric_when_another_is_served(bench: Bench) -> None:
    """And is not told in turns while a fleet has two."""
    first, second = (dataclasses.replace(MODEL, version=name, sha256=name * 32) for name in ("v1", "v2"))
    told = [announcement.info_bytes(model, None) for model in (first, second)]
    reader = Announcements()
    for order in ([0, 1], [1, 0], [1, 0], [0, 1]):
        assert reader.read([b"w", b"w"], [told[k] for k in order], None)[0] == first
    assert reader.read([b"w"], [told[1]], told[1])[0] == second, "no worker has the first any more"

    def series() -> set[str]:
        families = bench.metrics.registry.collect()
        return {s.labels["version"] for f in families if f.name == "dmvfn_model_info" for s in f.samples}

    for model in (first, second):
        await bench.front.client.set(bench.keys.model, announcement.info_bytes(model, None))
        await bench.front._look()
        assert series() == {model.version}


async def test_large_frames_are_packed_and_read_beside_the_event_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte is moved in a fraction of a millisecond; eight steps of 4K stopped every other caller for 0.3 s."""
    names = ("frame_bytes", "read_frame", "result_bytes", "read_result")
    threads: dict[str, set[bool]] = {name: set() for name in names}
    for name, inside in threads.items():
        work = getattr(serialization, name)

        def seen(*args: Any, work: Any = work, inside: set[bool] = inside, **words: Any) -> Any:
            inside.add(threading.current_thread() is threading.main_thread())
            return work(*args, **words)

        monkeypatch.setattr(serialization, name, seen)
    async with bench.work(Adder()):
        for size, is_on_the_loop in (((32, 48), True), ((600, 1024), False)):
            frames = frame(3, *size), frame(4, *size)
            for inside in threads.values():
                inside.clear()
            assert alike(await bench.engine.predict(PredictRequest("r", *frames)), answer(PredictRequest("r", *frames)))
            assert threads == {name: {is_on_the_loop} for name in names}, "of the front end and of the worker"
        picture = frame(5)
        file = dataclasses.replace(picture, source=codec.encode(picture, ImageFormat.PNG))
        await bench.engine.predict(PredictRequest("r", file, file))
        assert False in threads["read_frame"], "a file is decoded in a thread, however small"


async def test_answers_are_fetched_a_few_megabytes_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, fetched = bench.engine, list[int]()
    fetch = engine._fetch

    async def counted(commands: Any) -> Any:
        fetched.append(len(commands) // 2)
        return await fetch(commands)

    monkeypatch.setattr(engine, "_fetch", counted)
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        frames = frame(3, 500, 800), frame(4, 500, 800)  # 1.2 MB each
        calls = [asyncio.create_task(engine.predict(PredictRequest(str(k), *frames))) for k in range(7)]
        await until(lambda: len(engine._calls) == 7)
        await engine._collect(list(engine._calls))
        assert fetched == [3, 3, 1]
        adder.gate.set()
        for call in calls:
            with contextlib.suppress(ServiceError):
                await call


async def test_a_deadline_that_the_queue_cannot_meet_is_refused_before_any_work(bench: Bench) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder):
        await bench.front.client.hset(bench.keys.load, "live", 60_000_000)
        with pytest.raises(DeadlineExceeded) as caught:
            await bench.engine.predict(request(1, deadline=time.monotonic() + 5))
        assert (caught.value.reason, adder.seen) == ("unmeetable", [])
        assert (caught.value.retry_after or 0) >= 1, "a refusal says how long to wait"
        await bench.front.client.hset(bench.keys.load, "live", 0)


async def test_what_only_its_price_refuses_is_tried_now_and_then_as_one_process_does(bench: Bench) -> None:
    """Else a wrong price would refuse it for ever on a fleet that is never idle: what never runs is never measured."""
    later = 0.0
    engine = QueuedEngine(bench.settings, bench.front, bench.metrics, lambda: time.monotonic() + later)
    adder = Adder()
    adder.gate = asyncio.Event()
    async with bench.work(adder) as worker:
        worker._runs.price.seconds_per_megapixel = 86_400.0

        async def is_dear() -> bool:
            await bench.front._look()
            return bench.front.price(Bucket.of(32, 48), Options()).least > 60

        await until(is_dear)

        def call(value: int) -> Coroutine[Any, Any, PredictResult]:
            return engine.predict(request(value, deadline=time.monotonic() + later + 30))

        first = asyncio.create_task(call(1))  # finds nobody
        await until(lambda: adder.running == 1)
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match="more than the deadline allows"):
                await call(2)
        later = BUSY_TRIAL_S + 1
        tried = asyncio.create_task(call(3))
        await until(lambda: adder.running == 2)
        assert [seen.is_trial for seen in adder.seen] == [False, True]
        with pytest.raises(DeadlineExceeded, match="more than the deadline allows"):
            await call(4)
        adder.gate.set()
        await asyncio.gather(first, tried)
    await engine.close()


async def test_a_dead_front_ends_calls_are_never_run(bench: Bench, settings: Settings) -> None:
    async with bench.work(Adder()):
        pass
    gone = QueueClient(settings)
    engine = QueuedEngine(settings, gone, metrics())
    await gone.start()
    await until(lambda: gone.readiness().ready)
    call = asyncio.create_task(engine.predict(request(3)))

    async def queued() -> bool:
        return bool(await bench.front.client.hget(bench.keys.load, "items") == b"1")

    await until(queued)
    await gone.stop()  # takes its sign of life away; a killed one's runs out
    adder = Adder()
    async with bench.work(adder):
        await until(bench.empty)
    assert adder.seen == []
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await engine.close()
    await gone.steady.aclose()  # again: the call's withdrawal opened it
