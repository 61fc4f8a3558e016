"""A job whose record is half gone, as after a Redis that dropped writes: clear answers, and the key is free again."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from service.app_state import AppState
from service.cli.jobs import main
from service.core.errors import ServiceError
from service.core.types import PredictRequest
from service.distributed.broker import scripts
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.frontend.webhooks import WebhookSender
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.serving.jobs.job import JobState, JobView
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.servers import Server
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of
from tests.unit.rest.routes.test_jobs import png

FRAMES = [("frames", ("f", png(frame(value).pixels))) for value in (1, 2, 3)]
KEY = {"Idempotency-Key": "order-17"}
ROUNDS = 40


@pytest_asyncio.fixture
async def http(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """The real front end's HTTP side over `bench`; an exception inside it answers 500, as in production."""
    settings = bench.settings
    codecs = Codecs(FrameLimits.of(settings), 1, bench.metrics)
    app = build(AppState(settings, bench.engine, codecs, bench.metrics), jobs=jobs_of(bench))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    codecs.close()


def damage(client: Any, rng: random.Random, job: str, path: str) -> list[str]:
    """Deletes some fields of the job's hash and some of the queue's other keys; what was deleted."""
    fields = sorted(client.hkeys(path))
    gone = rng.sample(fields, rng.randint(1, len(fields)))
    client.hdel(path, *gone)
    others = sorted(key for key in client.scan_iter(match="{dmvfn}:*") if key != path.encode() and b":f:" not in key)
    keys = [key for key in others if rng.random() < 0.3]
    if keys:
        client.delete(*keys)
    return [name.decode() for name in gone + keys]


@pytest.mark.parametrize("state", ["queued", "done"])
async def test_whatever_is_gone_the_answer_is_clear_and_the_key_is_free(
    state: str, bench: Bench, http: httpx.AsyncClient, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, client = random.Random(16), server.client()
    for _ in range(ROUNDS if state == "queued" else 10):
        client.flushall()
        await until(lambda: bench.front.readiness().reason != "queue_lost")
        accepted = await http.post("/v1/jobs", files=FRAMES, headers=KEY)
        assert accepted.status_code == 202, accepted.text
        job = accepted.json()["id"]
        if state == "done":
            async with bench.work(Adder()):
                assert await ended(jobs_of(bench), job) is JobState.DONE
        gone = damage(client, rng, job, bench.keys.job(job))
        paths = [("GET", ""), ("GET", "/result"), ("GET", "/result?item=1"), ("GET", "?wait=0.01"), ("DELETE", "")]
        answers = [await http.request(verb, f"/v1/jobs/{job}{rest}") for verb, rest in paths]
        for response in answers:
            assert response.status_code in (200, 404, 409), (gone, response.status_code, response.text)
            assert response.status_code == 200 or response.json()["code"] in ("not_found", "conflict")
        lost = set(gone) & {name.decode() for name in scripts.RECORD}
        if lost:
            assert [response.status_code for response in answers] == [404] * len(answers), gone
        for words in (["list"], ["inspect", job], ["dead"], ["cancel", job], ["purge", "--all"], ["replay", "--all"]):
            assert await asyncio.to_thread(main, words, bench.settings) in (0, 1), (words, gone)
        again = await http.post("/v1/jobs", files=FRAMES, headers=KEY)
        # DELETE frees the key of what has ended; what was withdrawn is known for a while.
        assert again.status_code == (202 if lost or state == "done" else 200), (gone, again.text)
    capsys.readouterr()
    client.close()


async def test_a_job_accepted_anew_gets_its_own_answers_and_none_of_the_lost_ones(bench: Bench, server: Server) -> None:
    """The lost job's items still wait in their stream; their answers are not the new job's."""
    jobs, lost, new = jobs_of(bench), a_job(1, 2, 3), a_job(7, 8, 9)
    await until(lambda: bench.front.readiness().reason != "queue_lost")
    await jobs.submit(lost)
    server.client().hdel(bench.keys.job(lost.id), "n", "fp")
    new = dataclasses.replace(new, id=lost.id)
    assert (await jobs.submit(new))[1]
    async with bench.work(Adder()):
        assert await ended(jobs, new.id) is JobState.DONE
        results = [await jobs.result(new.id, "", item) for item in (0, 1)]
        await until(bench.empty)
    for item, result in enumerate(results):
        expected = answer(PredictRequest(new.id, new.frames[item], new.frames[item + 1]))
        assert alike(result, expected)


async def test_a_worker_ends_the_items_of_a_record_that_is_half_gone(bench: Bench, server: Server) -> None:
    jobs, client = jobs_of(bench), server.client()
    await until(lambda: bench.front.readiness().reason != "queue_lost")
    gone = [["m"], ["n"], ["done", "c"], ["s"], ["p"]]
    submitted = []
    for fields in gone:
        job = a_job(1, 2)
        await jobs.submit(job)
        client.hdel(bench.keys.job(job.id), *fields)
        submitted.append(job.id)
    async with bench.work(Adder()):
        await until(bench.empty)
    assert all(client.ttl(bench.keys.job(job)) != -1 for job in submitted), "kept for ever"


@pytest.mark.parametrize("name", ["load", "buckets"])
async def test_counts_that_were_lost_are_right_again_once_nothing_is_queued(
    bench: Bench, server: Server, name: str
) -> None:
    """They stayed below zero by what was queued, for ever, and the queue took so much more than it may."""
    device, client = Adder(), server.client()
    device.gate = asyncio.Event()
    async with bench.work(device):
        calls = [
            asyncio.create_task(bench.engine.predict(PredictRequest(str(k), frame(k), frame(9)))) for k in range(6)
        ]
        await until(lambda: client.hget(bench.keys.load, "items") == b"6" and device.running > 0)
        client.delete(getattr(bench.keys, name))
        device.gate.set()
        await asyncio.gather(*calls)
        await until(bench.empty)


async def test_a_webhook_that_outlives_its_job_leaves_nothing_behind(bench: Bench, server: Server) -> None:
    client = server.client()
    settings = bench.settings.replace(webhook_secret="x" * 16)
    hooks, jobs = WebhookSender(settings, bench.front, metrics()), RedisJobs(settings, bench.front)
    job = dataclasses.replace(a_job(1, 2), webhook="http://127.0.0.1:9/x")

    class Slow:
        """A receiver that answers nothing; meanwhile the job expires."""

        async def send(self, url: str, view: JobView) -> bool:
            client.unlink(bench.keys.job(job.id))
            return False

    async with bench.work(Adder()):
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        hooks._sender = Slow()  # type: ignore[assignment]
        await hooks.deliver(job.id)
        assert not client.exists(bench.keys.job(job.id))
        assert not client.exists(bench.keys.hooks)
        with pytest.raises(ServiceError, match="there is no job"):
            await jobs.get(job.id, "")
        assert (await jobs.submit(job))[1], "the same key is accepted anew"
        assert await ended(jobs, job.id) is JobState.DONE


async def test_a_webhook_of_a_record_that_is_half_gone_is_given_up(bench: Bench, server: Server) -> None:
    client, hooks = server.client(), WebhookSender(bench.settings.replace(webhook_secret="x"), bench.front, metrics())
    client.hset(bench.keys.job("half"), mapping={"hook": "http://127.0.0.1:9/x", "s": "done"})
    client.zadd(bench.keys.hooks, {"half": 0})
    await hooks.deliver("half")
    assert not client.exists(bench.keys.hooks)
