"""A front end's link to Redis: slow, cut for a moment, or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import redis

from service.core.errors import Unavailable
from service.core.types import PredictRequest
from service.distributed.broker import client as broker_client
from service.distributed.broker.transfers import Transfers
from service.distributed.frontend import listener, queue_client
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.queue_client import QueueClient
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.frontend.test_engine import request
from tests.unit.distributed.servers import Server


class Link:
    """A way to the server that carries `rate` bytes a second towards it, over all connections together."""

    def __init__(self, server: Server, rate: float) -> None:
        self._server, self._rate = server, rate
        self._free_at = 0.0
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Link]:
        gate = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        user = self._server.url.removeprefix("unix://").rpartition("@")[0]
        self.url = f"redis://{user}{'@' if user else ''}127.0.0.1:{gate.sockets[0].getsockname()[1]}/0"
        try:
            yield self
        finally:
            gate.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(str(self._server.socket))
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, to_server, self._rate), self._pump(from_server, writer, 0.0))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        try:
            while data := await reader.read(65536):
                if rate:
                    self._free_at = max(self._free_at, time.monotonic()) + len(data) / rate
                    await asyncio.sleep(self._free_at - time.monotonic())
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are given up sooner, so that the tests are quicker. To be asked for before `bench`."""
    monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT", 1.5)
    monkeypatch.setattr(listener, "BLOCK_S", 0.5)


@pytest.mark.measured
async def test_a_burst_that_takes_longer_to_upload_than_a_connection_may_loses_no_call(
    hasty: None, bench: Bench, server: Server
) -> None:
    """140 calls of 0.33 MB over 12 MB/s: 3.9 s, where a connection is given 1.5 s."""
    async with bench.work(Adder()), Link(server, 12e6).open() as link:
        slow = QueueClient(bench.settings.replace(redis_url=link.url), metrics())
        engine = QueuedEngine(bench.settings, slow, metrics())
        lost: list[float] = []
        slow.lost = lambda: lost.append(time.monotonic())
        await slow.start()
        await until(lambda: slow.readiness().ready)
        ends, last = time.monotonic() + 60, frame(1, 192, 288)
        asked = [PredictRequest(f"r{k}", frame(k, 192, 288), last, deadline=ends) for k in range(140)]
        calls = [asyncio.create_task(engine.predict(one)) for one in asked]
        ready = []
        while not all(call.done() for call in calls):
            ready.append(slow.readiness().ready)
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*calls)
        assert all(alike(a, answer(q)) for a, q in zip(answers, asked, strict=True))
        assert (lost, all(ready)) == ([], True)
        await engine.close()
        await slow.stop()


async def test_after_a_cut_nothing_runs_that_was_answered_by_the_cut(bench: Bench, server: Server) -> None:
    async with bench.work(Adder()):
        pass
    calls = [asyncio.create_task(bench.engine.predict(request(k))) for k in range(40)]

    async def queued() -> bool:
        return bool(await bench.front.client.hget(bench.keys.load, "items") == b"40")

    await until(queued)
    admin = server.client()
    admin.client_kill_filter(_type="normal", skipme=True)
    admin.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    await until(lambda: bench.front.readiness().ready)
    adder = Adder()
    async with bench.work(adder):
        assert alike(await bench.engine.predict(request(50)), answer(request(50)))
        await until(bench.empty)
    assert len(adder.seen) == 1


async def test_an_upload_under_way_when_redis_stops_fails_at_once_and_never_runs(
    hasty: None, bench: Bench, server: Server
) -> None:
    adder = Adder()
    async with bench.work(adder):
        server.pause()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await bench.engine.predict(request(1, deadline=begun + 120))
        assert time.monotonic() - begun < 60  # a connection's 1.5 s, on a busy machine; not the deadline
        server.go_on()
        await until(lambda: bench.front.readiness().ready)
        await until(bench.empty)
        await until(lambda: bench.engine._unwanted == set())  # by the next look at the latest
        assert adder.seen == []


async def test_a_call_dropped_for_a_late_sign_of_life_is_told_so_at_once(bench: Bench) -> None:
    """A worker takes a front end without a sign of life for dead; one that lives must not wait for its deadline."""
    async with bench.work(Adder()):
        await until(lambda: bench.front.readiness().ready)
        life = next(task for task in bench.front._tasks if task.get_name() == "redis_pulse")
        await broker_client.end(life)
        await bench.front.client.unlink(bench.keys.front(bench.front.name))
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="lost") as caught:
            await bench.engine.predict(request(1, deadline=begun + 120))
        assert caught.value.retry_after == 1.0
        assert time.monotonic() - begun < 60
        await until(bench.empty)


async def test_a_slow_look_at_the_queue_does_not_hold_up_the_sign_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_client, "PULSE_S", 0.01)
    async with bench.work(Adder()):
        looks = asyncio.Event()

        async def stuck(self: QueueClient) -> None:
            looks.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(QueueClient, "_look", stuck)
        await looks.wait()
        pulse = bench.front._pulsed
        await until(lambda: bench.front._pulsed > pulse)
        assert alike(await bench.engine.predict(request(1)), answer(request(1)))


async def test_a_connection_that_times_out_is_no_loss_of_redis_while_the_sign_of_life_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    async with bench.work(Adder()):
        monkeypatch.setattr(bench.front, "lost", lambda: lost.append("lost"))
        uploads, upload = [], QueueClient._upload

        async def slow(self: QueueClient, *arguments: Any) -> Any:
            uploads.append(arguments)
            if len(uploads) < 3:
                raise redis.TimeoutError("the link is full")
            return await upload(self, *arguments)

        monkeypatch.setattr(QueueClient, "_upload", slow)

        async def full(self: QueueClient) -> None:
            raise redis.TimeoutError("the link is full")

        monkeypatch.setattr(QueueClient, "_look", full)
        assert alike(await bench.engine.predict(request(1)), answer(request(1)))
        assert (len(uploads), lost, bench.front.readiness().ready) == (3, [], True)


async def test_uploads_go_in_their_order_within_places_and_bytes_and_a_large_one_goes_alone() -> None:
    uploads, running, order = Transfers(most=2, most_bytes=10), [], []

    async def one(name: str, nbytes: int) -> None:
        async with uploads.place(nbytes):
            running.append(nbytes)
            order.append(name)
            assert len(running) <= 2
            assert len(running) == 1 or sum(running) <= 10
            await asyncio.sleep(0.005)
            running.remove(nbytes)

    tasks = [asyncio.create_task(one(name, n)) for name, n in (("a", 6), ("b", 6), ("huge", 99), ("c", 1), ("d", 1))]
    await asyncio.sleep(0)
    tasks[1].cancel()  # its caller left while it waited
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "huge", "c", "d"]
    assert (uploads._running, uploads._bytes, len(uploads._waiting)) == (0, 0, 0)


async def test_a_slow_link_has_fewer_uploads_at_once_and_a_quick_one_all_again() -> None:
    now = 0.0
    uploads = Transfers(most=8, clock=lambda: now)

    async def round_of(seconds: float) -> None:
        nonlocal now
        async with AsyncExitStack() as stack:
            for _ in range(uploads.places):
                await stack.enter_async_context(uploads.place(1))
            now += seconds

    await round_of(5.0)
    assert uploads.places == 4  # halved once by all eight
    for _ in range(4):
        await round_of(5.0)
    assert uploads.places == 1
    for _ in range(60):
        await round_of(0.1)
    assert uploads.places == 8
