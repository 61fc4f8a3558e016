"""Clips as jobs in Redis: made by any front end, predicted by workers, taken over from one that dies."""

from __future__ import annotations

import asyncio
import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from service.cli.jobs import main as jobs_cli
from service.core.types import Options, PredictResult
from service.distributed.broker import clip_record, scripts
from service.distributed.broker.keys import Keys
from service.distributed.broker.serialization import UnreadableEntry, pack, unpack
from service.distributed.frontend.results import ResultStore
from service.serving.jobs import clip_makers, kept_predictions
from service.serving.jobs.clip_jobs import NewClip
from service.serving.jobs.job import Failure
from service.serving.video.conversion import ClipOrder
from service.serving.video.output_frames import VideoParams
from service.serving.video.retimed_frames import RetimingParams
from service.settings import Settings
from tests.unit.distributed.clip_house import ANN, BOB, KEYS, clip_house
from tests.unit.distributed.conftest import until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server
from tests.unit.distributed.workers import working
from tests.unit.serving.video.clips import moving, y4m

#: Frames of a range, small enough for short clips.
RANGE = 4


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(engine="redis", redis_url=server.url, api_keys=KEYS)


def lapse(server: Server, settings: Settings) -> None:
    """End all leases of clips, as time does."""
    client, leases = server.client(), Keys(settings.redis_queue).clip_leases
    for member, _ in client.zscan_iter(leases):
        client.zadd(leases, {member: 0})
    client.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that ran out, of which nothing tells, are looked for at once."""
    monkeypatch.setattr(clip_makers, "LOOK_S", 0.02)


def left(server: Server, path: str) -> list[str]:
    """Keys that tell of this clip, or of clips at all, but for who was served when."""
    client, clip = server.client(), path.rpartition("/")[2]
    names = sorted(bytes(name).decode().partition("}:")[2] for name in client.scan_iter("*"))
    client.close()
    return [name for name in names if clip in name or name in ("clips", "clips:line", "clips:leases", "results")]


async def test_a_clip_is_accepted_by_one_made_by_another_and_told_of_by_both(settings: Settings) -> None:
    body = y4m(moving(9))
    async with (
        clip_house(settings) as door,
        clip_house(settings) as maker,
        working(settings, Adder(), door.front._front),
    ):
        posted = await door.post(body)
        assert posted.status_code == 202, posted.text
        path = posted.headers["location"]
        assert (posted.json()["state"], posted.json()["durable"]) == ("queued", True)
        maker.make()
        assert (await door.comes_to(path, "done"))["done"] == 9
        here, there = await door.get(f"{path}/result"), await maker.get(f"{path}/result")
        assert here.content == there.content
        assert here.headers["etag"] == there.headers["etag"]
        waited = await door.http.post("/v1/video?every=2", content=body, headers={**ANN, "Accept": "video/x-yuv4mpeg2"})
        assert waited.content == here.content
        assert maker.count("dmvfn_clip_jobs_total", outcome="done") == 1


@pytest.mark.parametrize("query", ["ahead=1", "fps=20"])
async def test_another_process_goes_on_where_one_that_died_was(
    query: str, settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is not predicted again, and the clip is the same to the byte."""
    monkeypatch.setattr(kept_predictions, "RANGE_FRAMES", RANGE)
    frames = moving(4 * RANGE + 1)
    shown_frames, predictions = {
        "ahead=1": (len(frames), len(frames) - 2),  # the first two have nothing before them
        "fps=20": (2 * len(frames), len(frames) - 1),  # one between two, and after the last
    }[query]
    first, second = Adder(), Adder()
    async with clip_house(settings) as house, clip_house(settings) as heir:
        async with working(settings, first, house.front._front):
            path = (await house.post(y4m(frames), query=query)).headers["location"]
            record = Keys(settings.redis_queue).job(path.rpartition("/")[2])
            slow = asyncio.Event()
            predict = first.predict

            async def at_first(request: Any) -> PredictResult:
                if len(first.seen) >= 2 * RANGE:
                    await slow.wait()
                return await predict(request)

            monkeypatch.setattr(first, "predict", at_first)
            house.make()

            async def has_range() -> bool:
                return int(await house.front._front.client.hget(record, "ranges") or 0) >= 1

            await until(has_range, 60)
            await house.die(monkeypatch)
            lapse(server, settings)
            slow.set()
        async with working(settings, second, house.front._front):
            heir.make()
            shown = await heir.comes_to(path, "done")
            result = (await heir.get(f"{path}/result")).content
            assert shown["done"] == shown_frames
            assert heir.count("dmvfn_clip_takeovers_total") == 1
            kept = heir.count("dmvfn_clip_frames_total", source="kept")
            assert kept >= RANGE
            assert heir.count("dmvfn_clip_frames_total", source="predicted") == predictions - kept
            waited = await heir.http.post(
                f"/v1/video?{query}", content=y4m(frames), headers={**ANN, "Accept": "video/x-yuv4mpeg2"}
            )
            assert waited.content == result


async def test_a_stopping_front_end_gives_its_clip_back_uncounted(settings: Settings) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with (
        clip_house(settings) as house,
        clip_house(settings) as heir,
        working(settings, adder, house.front._front),
    ):
        path = (await house.post(y4m(moving(9)))).headers["location"]
        house.make()
        await until(lambda: bool(adder.seen), 60)
        await house.stop()
        record = Keys(settings.redis_queue).job(path.rpartition("/")[2])
        assert await house.front._front.client.hget(record, "runs") == b"0"
        adder.gate.set()
        heir.make()
        await heir.comes_to(path, "done")


async def test_a_clip_whose_makers_all_die_fails_with_a_reason(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    settings = settings.replace(max_deliveries=2)
    async with clip_house(settings) as house, working(settings, adder, house.front._front):
        path = (await house.post(y4m(moving(5)))).headers["location"]
        for _ in range(2):
            house.make()
            await house.comes_to(path, "running")
            await until(lambda: bool(house.makers._making), 60)
            await house.die(monkeypatch)
            lapse(server, settings)
        house.make()
        shown = await house.comes_to(path, "failed")
        assert "given up after 2 runs" in shown["error"]["message"]
        adder.gate.set()


async def test_a_deleted_clip_leaves_nothing_even_while_it_is_made(settings: Settings, server: Server) -> None:
    adder = Adder()
    adder.gate = asyncio.Event()
    async with clip_house(settings) as house, working(settings, adder, house.front._front):
        path = (await house.post(y4m(moving(9)))).headers["location"]
        house.make()
        await until(lambda: bool(adder.seen), 60)
        assert (await house.http.delete(path, headers=ANN)).json()["state"] == "cancelled"
        assert (await house.get(path)).status_code == 404
        await until(lambda: not house.makers._making, 60)
        adder.gate.set()
        await until(lambda: left(server, path) == [], 60)


async def test_bytes_and_places_are_shared_by_callers_and_given_back(settings: Settings, server: Server) -> None:
    body = y4m(moving(3))
    one = len(body) + 1024
    settings = settings.replace(max_result_bytes=round(2.9 * one))
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        first = await house.post(body)
        assert first.status_code == 202
        refused = await house.post(y4m(moving(3, seed=4)))
        assert refused.status_code == 202
        third = await house.post(y4m(moving(3, seed=5)))
        assert (third.status_code, third.json()["code"]) == (429, "queue_full")
        assert (await house.post(body, BOB)).status_code == 429
        assert (await house.http.delete(first.headers["location"], headers=ANN)).status_code == 200
        assert (await house.post(body, BOB)).status_code == 202


async def test_a_fetched_clip_makes_room_for_another(settings: Settings) -> None:
    body = y4m(moving(3))
    settings = settings.replace(max_result_bytes=round(2.2 * (len(body) + 1024)))
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        house.make()
        path = (await house.post(body)).headers["location"]
        await house.comes_to(path, "done")
        assert (await house.get(f"{path}/result")).status_code == 200
        await house.stop()
        answers = [await house.post(body, BOB), await house.post(body)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert (await house.get(path)).status_code == 404


async def test_callers_take_turns_in_the_line(settings: Settings) -> None:
    order = []
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        anns = [(await house.post(y4m(moving(3)))).headers["location"] for _ in range(3)]
        bobs = [(await house.post(y4m(moving(3)), BOB)).headers["location"] for _ in range(2)]
        queue = house.front.clip_queue
        while (lease := await queue.take(set())) is not None:
            order.append(f"/v1/video/{lease.clip.id}")
            await lease.fail(Failure("internal", "only counted"))
        assert order == [anns[0], bobs[0], anns[1], bobs[1], anns[2]]


async def test_a_clip_of_another_release_is_left_to_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        written = clip_record.order_bytes
        with monkeypatch.context() as patch:
            patch.setattr(clip_record, "order_bytes", lambda *a: pack({**unpack(written(*a)), "new": 1}))
            unknown = (await house.post(y4m(moving(3)))).headers["location"]
        known = (await house.post(y4m(moving(3)))).headers["location"]
        house.make()
        await house.comes_to(known, "done")
        assert (await house.get(unknown)).json()["state"] in ("queued", "running")


async def test_a_clip_is_no_job_of_frames(settings: Settings) -> None:
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        path = (await house.post(y4m(moving(3)))).headers["location"]
        assert (await house.get(path.replace("video", "jobs"))).status_code == 404
        assert (await house.get(path, BOB)).status_code == 404


def test_an_order_is_read_back_whole() -> None:
    """Options that are added to a clip must be added to its order: else a clip made elsewhere is made without them."""
    assert {field.name for field in dataclasses.fields(ClipOrder)} == {
        *("params", "options", "suffix", "media_type", "sound"),
    }
    assert {field.name for field in dataclasses.fields(VideoParams)} == {"plan", "compare", "scene_cuts", "under_way"}
    assert {field.name for field in dataclasses.fields(RetimingParams)} == {"fps", "conceal", "scene_cuts"}
    for fps, conceal in ((Fraction(60000, 1001), False), (Fraction(60), True), (None, True)):
        order = ClipOrder(RetimingParams(fps, conceal), Options(), ".mp4", "video/mp4")
        assert clip_record.read_order(clip_record.order_bytes(order, "ann")) == order
    with pytest.raises(UnreadableEntry):
        clip_record.read_order(b"nothing")
    assert NewClip.__slots__ == (*("id", "client", "holder", "order", "fingerprint", "frames", "webhook", "name"),)


async def test_a_caller_s_own_fetched_clips_make_way_for_its_next(settings: Settings) -> None:
    body = y4m(moving(3))
    settings = settings.replace(max_result_bytes=round(1.9 * (len(body) + 1024)))
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        house.make()
        for _ in range(3):
            path = (await house.post(body)).headers["location"]
            await house.comes_to(path, "done")
            refused = await house.post(body)
            assert (refused.status_code, refused.json()["code"]) == (429, "queue_full"), "nobody has fetched it"
            assert (await house.get(f"{path}/result")).status_code == 200


async def test_a_full_redis_takes_no_clip_and_ends_those_it_has(settings: Settings, server: Server) -> None:
    """A maker keeps its lease, ranges find no room, and what ends a clip is granted."""
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        path = (await house.post(y4m(moving(3)))).headers["location"]
        lease = await house.front.clip_queue.take(set())
        assert lease is not None
        client = server.client()
        client.config_set("maxmemory", 1)
        assert (await house.post(y4m(moving(3)))).status_code == 429
        front = house.front._front
        assert await scripts.call(front.steady, lease._renew_call()) == 1
        assert await lease.keep_range([]) is False
        await lease.give_back(is_counted=False, delay_s=0.0)
        lease = await house.front.clip_queue.take(set())
        assert lease is not None
        await lease.fail(Failure("internal", "as a test wants it"))
        assert (await house.get(path)).json()["state"] == "failed"
        assert (await house.http.delete(path, headers=ANN)).status_code == 200
        assert left(server, path) == []
        client.config_set("maxmemory", 0)
        client.close()


async def test_an_operator_sees_clips_and_withdraws_none_by_half(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        clip = (await house.post(y4m(moving(3)))).headers["location"].rpartition("/")[2]
        for words, status in ((["list"], 0), (["inspect", clip], 0), (["cancel", clip], 1)):
            assert await asyncio.to_thread(jobs_cli, words, settings) == status
    told = capsys.readouterr()
    assert "clips  waiting 1  being made 0  kept 1" in told.out
    assert "kind      clip" in told.out
    assert f"DELETE /v1/video/{clip}" in told.err


async def test_the_release_before_takes_a_clip_s_record_for_an_ended_job(settings: Settings, server: Server) -> None:
    """It counts the room, and removes the clip to make room, with the jobs' own scripts; nothing is left behind."""
    async with clip_house(settings) as house, working(settings, Adder(), house.front._front):
        house.make()
        path = (await house.post(y4m(moving(3)))).headers["location"]
        await house.comes_to(path, "done")
        results = ResultStore(house.front._front.client, house.front._front.keys)
        await results._reckon()
        assert left(server, path) != []
        assert await results.forget(path.rpartition("/")[2], 3)
        assert (await house.get(path)).status_code == 404
        assert (await house.get("/v1/video")).json() == {"clips": []}
        other = (await house.post(y4m(moving(3)))).headers["location"]
        await house.comes_to(other, "done")
        assert left(server, path) == left(server, "nothing")
