"""A server whose memory is full, by others' keys too: what ends work, and who lives, is written all the same."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from service.core.errors import QueueFull
from service.distributed.frontend.webhooks import WebhookSender
from service.settings import Settings
from tests.unit.distributed.conftest import bench_of, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.frontend.test_webhooks import Receiver, receiver  # noqa: F401  (a fixture)
from tests.unit.distributed.servers import binaries, binary, running, shipped_acl
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of

#: What a full server grants a script is told otherwise in 6.2.
PROGRAMS = {binary(), *(path for name, path in binaries().items() if name == "redis-6.2")}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_workers_stay_alive_in_everybodys_eyes(program: Path) -> None:
    """They were counted as gone, and somebody was called, though they went on working."""
    with running(program, acl=shipped_acl()) as server, server.client() as admin:
        settings = Settings(engine="redis", redis_url=server.url, lease_ms=600, shutdown_grace_s=5.0)
        async with bench_of(settings) as bench, bench.work(Adder()):
            await until(lambda: bench.front.snapshot.workers == 1)
            admin.config_set("maxmemory", 1)
            counts = []
            for _ in range(30):  # three seconds: a sign of life lasts 1.2
                await asyncio.sleep(0.1)
                counts.append(bench.front.snapshot.workers)
            admin.config_set("maxmemory", 0)
    assert set(counts) == {1}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_a_jobs_end_is_told_and_what_is_fetched_makes_room(
    program: Path,
    receiver: Receiver,  # noqa: F811
) -> None:
    receiver.statuses = [503]
    with running(program, acl=shipped_acl()) as server, server.client() as admin:
        settings = Settings(engine="redis", redis_url=server.url, lease_ms=600, shutdown_grace_s=5.0)
        async with bench_of(settings) as bench, bench.work(Adder()):
            jobs, job = jobs_of(bench), dataclasses.replace(a_job(1, 2), webhook=receiver.url)
            await jobs.submit(job)
            await ended(jobs, job.id)
            sender = WebhookSender(settings, bench.front, bench.metrics)
            admin.config_set("maxmemory", 1)
            with pytest.raises(QueueFull):
                await jobs.submit(a_job(3, 4))
            await jobs.result(job.id, "", 0)
            assert admin.zrange(bench.keys.fetched, 0, -1) == [job.id.encode()]
            assert await sender.due() == job.id
            await sender.deliver(job.id)
            assert (len(receiver.told), admin.hget(bench.keys.job(job.id), "tries")) == (1, b"1")
            admin.config_set("maxmemory", 0)
            await bench.front.client.zadd(bench.keys.hooks, {job.id: 0})
            admin.config_set("maxmemory", 1)
            assert await sender.due() == job.id
            await sender.deliver(job.id)
            assert len(receiver.told) == 2
            assert not admin.exists(bench.keys.hooks)
            admin.config_set("maxmemory", 0)
            sender.close()
