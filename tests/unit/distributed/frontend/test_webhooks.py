"""Webhooks from jobs in Redis and in this process, to a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.distributed.broker.client import end
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
