"""A server that may evict whatever it was given: no job and no clip is accepted there, and calls are answered."""

from __future__ import annotations

import pytest

from service.core.errors import Unavailable
from service.core.types import PredictRequest
from service.settings import Settings
from tests.unit.distributed.clip_house import clip_house
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.servers import Server
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of
from tests.unit.distributed.workers import working
from tests.unit.serving.video.clips import moving, y4m

ASKED = PredictRequest("r", frame(3), frame(4))


def set_policy(server: Server, policy: str, memory: int = 50_000_000) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory", memory)
        admin.config_set("maxmemory-policy", policy)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu"])
async def test_no_job_is_accepted_that_could_be_evicted(bench: Bench, server: Server, policy: str) -> None:
    """It was accepted, and gone without a word as soon as others needed the room."""
    jobs = jobs_of(bench)
    async with bench.work(Adder()):
        set_policy(server, policy)
        bench.front.server.away()  # asked at the next look, not within a minute
        await until(lambda: bench.front.server.evicts_jobs)
        with pytest.raises(Unavailable, match="maxmemory-policy has to be noeviction") as refusal:
            await jobs.submit(a_job(1, 2))
        assert (refusal.value.reason, bool(refusal.value.retry_after)) == ("eviction", True)
        assert alike(await bench.engine.predict(ASKED), answer(ASKED))
        set_policy(server, "noeviction")
        bench.front.server.away()
        await until(lambda: not bench.front.server.evicts_jobs)
        job = a_job(1, 2)
        await jobs.submit(job)
        await ended(jobs, job.id)


@pytest.mark.parametrize(("policy", "memory"), [("volatile-lru", 50_000_000), ("allkeys-lru", 0)])
async def test_jobs_are_accepted_where_none_that_waits_can_be_evicted(
    bench: Bench, server: Server, policy: str, memory: int
) -> None:
    """What waits has no time to live, and a server without a limit evicts nothing."""
    jobs, job = jobs_of(bench), a_job(1, 2)
    set_policy(server, policy, memory)
    bench.front.server.away()
    async with bench.work(Adder()):
        await until(lambda: not bench.front.server.is_due)
        await jobs.submit(job)
        with server.client() as admin:
            waiting = [key.decode() for key in admin.scan_iter() if job.id in key.decode()]
        assert waiting
        await ended(jobs, job.id)


async def test_no_clip_is_accepted_that_could_be_evicted(settings: Settings, server: Server) -> None:
    set_policy(server, "allkeys-lru")
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        refused = await house.post(y4m(moving(3)))
        assert (refused.status_code, refused.json()["reason"]) == (503, "eviction")
        assert refused.headers["retry-after"]
