"""What a front end's gauges tell of the clips of a queue."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from service.distributed.frontend.clip_stats import ClipStats
from service.serving.jobs import clip_makers
from service.settings import Settings
from tests.unit.distributed.clip_house import KEYS, ClipHouse, clip_house
from tests.unit.distributed.conftest import until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server
from tests.unit.distributed.workers import working
from tests.unit.serving.video.clips import moving, y4m


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(engine="redis", redis_url=server.url, api_keys=KEYS)


async def look(house: ClipHouse) -> ClipStats:
    await house.front._front._look()
    return house.front._front.snapshot.clips


async def result_of(house: ClipHouse, path: str) -> httpx.Response:
    await house.comes_to(path, "done")
    return await house.get(f"{path}/result")


async def test_gauges_tell_what_waits_what_is_made_and_what_is_held(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_makers, "LOOK_S", 0.02)
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        assert await look(house) == ClipStats()
        body = y4m(moving(3))
        paths = [(await house.post(body)).headers["location"] for _ in range(2)]
        stats = await look(house)
        assert 0 <= stats.oldest < 600
        waiting = ClipStats(queued=2, frames=6, nbytes=2 * len(body))
        assert dataclasses.replace(stats, oldest=0.0) == waiting
        lease = await house.front.clip_queue.take(())
        assert lease is not None
        stats = await look(house)
        assert (stats.queued, stats.running, stats.frames) == (1, 1, 6)
        await lease.give_back(is_counted=False, delay_s=0.0)

        async def is_given_back() -> bool:
            return (await look(house)).queued == 2

        await until(is_given_back)
        house.make()
        sizes = [len((await result_of(house, path)).content) for path in paths]
        assert await look(house) == ClipStats(nbytes=sum(sizes))
        series = {name: value for name, _, labels, value in house.front._front.gauges() if labels["queue"]}
        assert {name: value for name, value in series.items() if "_clip" in name} == {
            "redis_clips_queued": 0,
            "redis_clips_running": 0,
            "redis_clip_frames_waiting": 0,
            "redis_clip_ranges": 0,
            "redis_clip_bytes": sum(sizes),
            "redis_clip_oldest_wait_seconds": 0,
        }
