"""Clips whose bytes are in a store elsewhere: a folder here; `make object-store` asks a real S3 server, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.serving.jobs import clip_makers, kept_predictions
from service.settings import Settings
from tests.unit.distributed.broker.test_blob_store import s3_settings
from tests.unit.distributed.clip_house import ANN, KEYS, ClipHouse, clip_house
from tests.unit.distributed.conftest import until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server
from tests.unit.distributed.test_clips import lapse
from tests.unit.distributed.workers import working
from tests.unit.serving.video.clips import moving, y4m

RANGE = 4


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Settings:
    elsewhere = s3_settings() if request.param == "s3" else Settings(object_store=f"file://{tmp_path}")
    return elsewhere.replace(engine="redis", redis_url=server.url, api_keys=KEYS, max_result_bytes=64 * 1024)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_makers, "LOOK_S", 0.02)
    monkeypatch.setattr(kept_predictions, "RANGE_FRAMES", RANGE)


async def names(house: ClipHouse, path: str) -> list[str]:
    """What the store has of a clip, without its id."""
    clip = path.rpartition("/")[2]
    stored = await house.front._objects._blobs.names(clip)  # type: ignore[attr-defined]
    return sorted(name.partition("/")[2].partition("-")[0] for name in stored)


async def test_a_clip_larger_than_redis_may_hold_is_made_taken_over_and_deleted(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving(4 * RANGE + 1)
    body, adder = y4m(frames), Adder()
    assert len(body) > settings.max_result_bytes
    async with (
        clip_house(settings) as house,
        clip_house(settings) as heir,
        working(settings, adder, house.front._front),
    ):
        path = (await house.post(body, query="ahead=1")).headers["location"]
        slow, predict = asyncio.Event(), adder.predict

        async def at_first(request):  # type: ignore[no-untyped-def]
            if len(adder.seen) >= 2 * RANGE:
                await slow.wait()
            return await predict(request)

        monkeypatch.setattr(adder, "predict", at_first)
        house.make()

        job, client = house.front._front.keys.job(path.rpartition("/")[2]), server.client()
        # Its bytes are in the store before the record says so, and only what the record says is found again.
        await until(lambda: int(client.hget(job, "ranges") or 0) >= 1, 60)
        client.close()
        assert "k0" in await names(house, path)
        await house.die(monkeypatch)
        lapse(server, settings)
        slow.set()
        heir.make()
        assert (await heir.comes_to(path, "done"))["done"] == len(frames)
        assert heir.count("dmvfn_clip_frames_total", source="kept") >= RANGE
        await until(lambda: _is_trimmed(heir, path), 60)
        result = await house.get(f"{path}/result")
        part = await house.get(f"{path}/result", Range="bytes=5-9")
        assert (part.status_code, part.content) == (206, result.content[5:10])
        waited = await heir.http.post("/v1/video?ahead=1", content=body, headers={**ANN, "Accept": "video/x-yuv4mpeg2"})
        assert waited.content == result.content
        assert (await house.http.delete(path, headers=ANN)).status_code == 200
        assert await names(house, path) == []


async def _is_trimmed(house: ClipHouse, path: str) -> bool:
    return await names(house, path) == ["result"]


async def test_what_is_left_of_clips_that_are_gone_is_removed_in_time(settings: Settings, server: Server) -> None:
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        path = (await house.post(y4m(moving(3)))).headers["location"]
        clip, keys, client = path.rpartition("/")[2], house.front._front.keys, server.client()
        await house.front._objects.sweep()
        assert await names(house, path) == ["b"]
        client.zadd(keys.clip_objects, {clip: 1})
        await house.front._objects.sweep()
        assert await names(house, path) == ["b"], "its record is there"
        client.delete(keys.job(clip))
        await house.front._objects.sweep()
        assert await names(house, path) == []
        assert client.zcard(keys.clip_objects) == 0
        client.close()


async def test_a_store_that_removes_nothing_holds_up_neither_a_clips_end_nor_its_deletion(
    settings: Settings, server: Server, tmp_path: Path
) -> None:
    if not settings.object_store.startswith("file:"):
        pytest.skip("a bucket has no folders to be in the way")
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        path = (await house.post(y4m(moving(3)))).headers["location"]
        clip, keys, client = path.rpartition("/")[2], house.front._front.keys, server.client()
        (tmp_path / settings.redis_queue / clip / "in the way").mkdir()  # no file, which alone can be removed
        house.make()
        await house.comes_to(path, "done")
        await until(lambda: house.count("dmvfn_clip_jobs_total", outcome="done") == 1)
        assert (await house.get(f"{path}/result")).status_code == 200
        deleted = await house.http.delete(path, headers=ANN)
        assert (deleted.status_code, (await house.get(path)).status_code) == (200, 404)
        assert client.zscore(keys.clip_objects, clip) is not None  # for the next sweep
        client.close()
