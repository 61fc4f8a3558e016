from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from service.core.errors import DeadlineExceeded, InvalidRequest, QueueFull, Unavailable
from service.core.interfaces import Readiness
from service.core.types import Options, PredictRequest
from service.distributed.broker.keys import GROUP
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.queue_client import PULSE_S, QueueClient
from service.settings import Settings
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
        # What is told of a worker, under many names; and an item waiting in each of many sizes.
        admin, keys = server.client(), bench.keys
        about = admin.get(keys.model) or b""
        for k in range(100):
            admin.zadd(keys.workers, {f"w{k}": 2**53})
            admin.set(keys.info(f"w{k}"), about)
            admin.xadd(f"{keys.buckets}:{k}", {"j": "x"})
            admin.xgroup_create(f"{keys.buckets}:{k}", GROUP, id="0")
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
        assert (front.snapshot.workers, front.snapshot.leased) == (101, 0)
        assert len(sent) < 30, sent  # what the worker and the other front end said meanwhile included
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
