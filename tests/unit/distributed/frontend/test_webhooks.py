"""Webhooks from jobs in Redis and in this process, to a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.distributed.broker.client import end
from service.distributed.frontend import webhooks
from service.distributed.frontend.webhooks import WebhookSender
from service.serving.jobs import webhook
from service.serving.jobs.job import JobState, JobView, webhook_signature
from service.serving.jobs.local import LocalJobs
from service.serving.jobs.webhook import HEADER, Sender
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of

#: Seconds after which what does not come never will.
PATIENCE_S = 60.0


class Receiver:
    """Answers with the statuses it is given, 200 after them, and not before `gate` is set; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, bytes]] = []
        self.statuses: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.gate.wait(2 * PATIENCE_S)
                outer.told.append((self.path, self.headers[HEADER], body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


async def test_the_end_of_a_job_is_told_signed_and_again_after_a_failure(bench: Bench, receiver: Receiver) -> None:
    receiver.statuses = [503, 302]
    settings = dataclasses.replace(bench.settings, webhook_secret="s3cret")
    sender = WebhookSender(settings, bench.front, bench.metrics)
    job = dataclasses.replace(a_job(1, 2), webhook=receiver.url)
    async with bench.work(Adder()):
        await jobs_of(bench).submit(job)
        await ended(jobs_of(bench), job.id)
    for tries in (1, 2, 3):
        assert await sender.due() == job.id
        await sender.deliver(job.id)
        assert len(receiver.told) == tries
        assert await sender.due() is None  # not due again before its time
        if tries < 3:
            await bench.front.client.zadd(bench.keys.hooks, {job.id: 0})
    path, signature, body = receiver.told[-1]
    assert path == "/hook"
    assert json.loads(body) == {"id": job.id, "state": "done", "items": 1, "done": 1}
    timestamp = int(signature.partition(",")[0].removeprefix("t="))
    assert signature == webhook_signature("s3cret", timestamp, body)
    assert bench.count("dmvfn_webhooks_total", outcome="delivered") == 1
    assert not await bench.front.client.exists(bench.keys.hooks)
    sender.close()


async def test_a_receiver_that_is_slow_holds_up_its_own_webhooks_only(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 2 * PATIENCE_S)  # a slow one is not given up meanwhile
    sender = WebhookSender(dataclasses.replace(bench.settings, webhook_secret="s3cret"), bench.front, bench.metrics)
    with receiving() as slow:
        slow.gate.clear()
        jobs = [dataclasses.replace(a_job(1, 2), webhook=to.url) for to in (slow, slow, slow, receiver)]
        async with bench.work(Adder()):
            for job in jobs:
                await jobs_of(bench).submit(job)
                await ended(jobs_of(bench), job.id)
        running = asyncio.create_task(sender.run())
        await until(lambda: len(receiver.told) == 1, seconds=PATIENCE_S)
        assert slow.told == []
        slow.gate.set()
        await until(lambda: bench.count("dmvfn_webhooks_total", outcome="delivered") == len(jobs))
        await end(running)
    sender.close()


async def test_a_job_of_this_process_tells_too(bench: Bench, receiver: Receiver) -> None:
    instruments = metrics()
    jobs = LocalJobs(dataclasses.replace(bench.settings, webhook_secret="s3cret"), Adder(), instruments)
    await jobs.submit(dataclasses.replace(a_job(1, 2), webhook=receiver.url))
    await until(lambda: len(receiver.told) == 1)
    count = instruments.registry.get_sample_value
    await until(lambda: count("dmvfn_webhooks_total", {"outcome": "delivered"}) == 1)
    await jobs.close()
    await asyncio.sleep(0)


async def test_a_receiver_that_drips_has_the_time_of_one_delivery_and_not_of_each_read() -> None:
    """It sends a byte of its answer's head again and again, each well within a read's time-out."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1")
    sender = Sender("s3cret", timeout_s=0.2)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(60):
        assert await sender.send(f"http://127.0.0.1:{port}/x", JobView("j", JobState.DONE, 1, 1, 0.0)) is False
    sender.close()
    server.close()


@contextlib.contextmanager
def unanswered() -> Iterator[tuple[str, int]]:
    """An address of loopback that takes no connection and refuses none, as behind a firewall: its backlog is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for _ in range(4):
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        yield listener.getsockname()


def resolving(monkeypatch: pytest.MonkeyPatch, name: str, *places: tuple[str, int]) -> threading.Event:
    """Let a name have these addresses, in this order, once the event returned is set."""
    release, resolve = threading.Event(), socket.getaddrinfo

    def answer(host: str, *args: object, **options: object) -> object:
        if host != name:
            return resolve(host, *args, **options)  # type: ignore[arg-type]
        release.wait(2 * PATIENCE_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return release


VIEW = JobView("j", JobState.DONE, 1, 1, 0.0)


async def test_a_receiver_is_reached_past_an_address_of_its_name_that_nothing_answers(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address had the time of the whole delivery, so that the second one was never tried."""
    monkeypatch.setattr(webhook, "CONNECT_S", 0.02)
    sender = Sender("s3cret", timeout_s=2 * PATIENCE_S)
    with unanswered() as dead:
        resolving(monkeypatch, "receiver.test", dead, ("127.0.0.1", receiver.server.server_port)).set()
        async with asyncio.timeout(PATIENCE_S):
            assert await sender.send("http://receiver.test/hook", VIEW)
    assert [path for path, _, _ in receiver.told] == ["/hook"]
    sender.close()


async def test_addresses_that_nothing_answers_have_one_delivery_s_time_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Sender("s3cret", timeout_s=0.1)
    with unanswered() as dead:
        # A second each would be twenty minutes, far past what this waits for.
        resolving(monkeypatch, "receiver.test", *[dead] * 1200).set()
        async with asyncio.timeout(PATIENCE_S):
            assert not await sender.send("http://receiver.test/hook", VIEW)
            await asyncio.to_thread(sender._pool.shutdown)  # its thread is free again, too


async def test_a_name_that_is_not_resolved_takes_no_longer_than_a_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender("s3cret", timeout_s=0.05)
    release = resolving(monkeypatch, "receiver.test", ("127.0.0.1", 1))
    async with asyncio.timeout(PATIENCE_S):
        assert not await sender.send("http://receiver.test/hook", VIEW)
    assert not release.is_set()
    release.set()
    sender.close()


async def test_a_delivery_that_found_no_thread_in_time_is_not_sent_after_all(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads may hang on names that are not resolved; meanwhile another sender takes the webhook."""
    monkeypatch.setattr(webhook, "AT_ONCE", 1)
    monkeypatch.setattr(webhooks, "SEND_S", 0.05)
    release = resolving(monkeypatch, "receiver.test", ("127.0.0.1", receiver.server.server_port))
    sender = WebhookSender(dataclasses.replace(bench.settings, webhook_secret="s3cret"), bench.front, bench.metrics)
    urls = [receiver.url.replace("127.0.0.1", "receiver.test"), receiver.url]
    jobs = [dataclasses.replace(a_job(1, 2), webhook=url) for url in urls]
    async with bench.work(Adder()):
        for job in jobs:
            await jobs_of(bench).submit(job)
            await ended(jobs_of(bench), job.id)
            await sender.deliver(job.id)
    tries = [await bench.front.client.hget(bench.keys.job(job.id), "tries") for job in jobs]
    release.set()
    await asyncio.to_thread(sender._sender._pool.shutdown)
    assert tries == [b"1", b"1"]
    assert receiver.told == []
    sender.close()
