"""Callers of a Cluster and behind Sentinels: more at once than connections, and a Cluster that is away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from service.core.errors import Unavailable
from service.core.types import PredictRequest
from service.distributed.frontend.job_store import RedisJobs
from service.settings import Settings
from tests.unit.distributed.conftest import bench_of, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.other_ways import cluster, free_port, sentinel
from tests.unit.distributed.servers import binary, running
from tests.unit.distributed.worker.test_worker import a_job, ended

LOCAL = Settings(lease_ms=600, shutdown_grace_s=5.0)
#: More than redis-py's own pools have connections.
AT_ONCE = 250


@contextlib.contextmanager
def a_cluster(folder: Path) -> Iterator[tuple[Settings, int]]:
    with cluster(binary()) as (_, port):
        yield dataclasses.replace(LOCAL, redis_url=f"redis://127.0.0.1:{port}", redis_cluster=True), port


@contextlib.contextmanager
def behind_a_sentinel(folder: Path) -> Iterator[tuple[Settings, int]]:
    port = free_port()
    with running(binary(), "--port", str(port)), sentinel(binary(), port, folder) as address:
        yield dataclasses.replace(LOCAL, redis_url="redis://dmvfn", redis_sentinels=(address,)), port


@pytest.mark.parametrize("way", [a_cluster, behind_a_sentinel])
async def test_whoever_finds_no_connection_free_waits_for_one(
    way: Callable[[Path], contextlib.AbstractContextManager[tuple[Settings, int]]], tmp_path: Path
) -> None:
    """Three in five were told that the queue cannot be reached."""
    with way(tmp_path) as (settings, port), redis.Redis(port=port) as admin:
        async with bench_of(settings) as bench, bench.work(Adder()):
            jobs, job = RedisJobs(settings, bench.front), a_job(1, 2, 3)
            await jobs.submit(job)
            await ended(jobs, job.id)
            results = await asyncio.gather(*(jobs.result(job.id, "", 0) for _ in range(AT_ONCE)))
            assert len(results) == AT_ONCE
            assert len(admin.client_list()) < AT_ONCE / 2


async def test_a_cluster_that_is_away_is_told_as_such_and_comes_back() -> None:
    """redis-py's error for it is none of its others: callers got 500, and readiness stayed."""
    with cluster(binary(), "--appendonly", "yes") as (server, port):
        settings = dataclasses.replace(LOCAL, redis_url=f"redis://127.0.0.1:{port}", redis_cluster=True)
        async with bench_of(settings) as bench, bench.work(Adder()):
            jobs, asked = RedisJobs(settings, bench.front), PredictRequest("r", frame(3), frame(4))
            assert alike(await bench.engine.predict(asked), answer(asked))
            server.kill()
            questions = [
                bench.engine.predict(asked),
                jobs.submit(a_job(1, 2)),
                jobs.get("some", ""),
                jobs.of_client(""),
            ]
            answers = await asyncio.gather(*questions, return_exceptions=True)
            assert [type(error) for error in answers] == [Unavailable] * 4, answers
            await until(lambda: bench.front.readiness().reason == "queue_lost")
            server.start()
            await until(lambda: bench.front.readiness().ready)
            assert alike(await bench.engine.predict(asked), answer(asked))
            assert not bench.count("dmvfn_background_failures_total", task="redis_pulse")
