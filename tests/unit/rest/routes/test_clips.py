"""Clips as something shared: places, disk and turns of several callers, downloads, and the end of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.backends import DrainingEngine
from service.core.errors import Internal, QueueFull, TooLarge
from service.rest.app import build
from service.rest.routes import video
from service.serving.jobs import video as video_jobs
from service.serving.video import clip_disk, clip_places, clip_resources
from service.serving.video.clip_disk import ClipDisk
from service.serving.video.clip_places import ClipPlaces
from service.settings import Settings
from tests.unit.rest.small import ShiftEngine, Small, running
from tests.unit.rest.wired import until, wired
from tests.unit.serving.video.clips import moving, y4m
from tests.unit.serving.video.films import Film, write

Y4M = {"Accept": "video/x-yuv4mpeg2"}
LATER = {"Prefer": "respond-async"}
ANN, BOB = {"Authorization": "Bearer ann-s-key"}, {"Authorization": "Bearer bob-s-key"}


@dataclass(frozen=True, slots=True)
class House:
    """A small service with two callers, behind a gate that can be shut."""

    small: Small
    gate: DrainingEngine
    http: httpx.AsyncClient

    @property
    def engine(self) -> ShiftEngine:
        return self.small.engine

    async def post(self, body: Any, *headers: dict[str, str], query: str = "every=2") -> httpx.Response:
        joined = {name: value for given in (Y4M, *headers) for name, value in given.items()}
        return await self.http.post(f"/v1/video?{query}", content=body, headers=joined)

    async def job(self, who: dict[str, str], body: bytes, state: str = "done", query: str = "every=2") -> str:
        """The path of a job that has come to this state."""
        answer = await self.post(body, who, LATER, query=query)
        assert answer.status_code == 202, answer.text
        path = str(answer.headers["location"])
        await self.comes_to(path, who, state)
        return path

    async def comes_to(self, path: str, who: dict[str, str], state: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (shown := (await self.http.get(path, headers=who)).json()).get("state") != state:
                await asyncio.sleep(0.005)
        return dict(shown)


@asynccontextmanager
async def house(**settings: Any) -> AsyncIterator[House]:
    keys = (("ann", "ann-s-key"), ("bob", "bob-s-key"))
    async with running(Settings(api_keys=keys, **settings)) as small:
        gate = DrainingEngine(small.engine, small.parts.work)
        parts = replace(small.parts, engine=gate)
        transport = httpx.ASGITransport(build(parts, (video.router(parts),)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield House(small, gate, http)


async def _until(met: Any) -> None:
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.005)


# --- places -----------------------------------------------------------------------------------------------------------


async def test_uploads_that_do_not_end_take_no_place() -> None:
    open_ended = asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield b"YUV4"
        await open_ended.wait()

    async with house() as here:
        stuck = [asyncio.ensure_future(here.post(trickle(), ANN)) for _ in range(clip_places.CALLS_AT_ONCE + 2)]
        await asyncio.sleep(0.05)
        assert (await here.post(y4m(moving(3)), BOB)).status_code == 200
        assert (await here.post(y4m(moving(3)), ANN)).status_code == 200
        open_ended.set()
        assert {answer.status_code for answer in await asyncio.gather(*stuck)} <= {422, 429}


async def test_a_caller_with_all_its_places_leaves_one_to_another() -> None:
    async with house() as here:
        here.engine.hold = asyncio.Event()
        anns = [asyncio.ensure_future(here.post(y4m(moving(5)), ANN)) for _ in range(5)]
        await _until(lambda: len(here.engine.requests) >= clip_places.CALLS_OF_ONE)
        bobs = asyncio.ensure_future(here.post(y4m(moving(5)), BOB))
        await _until(lambda: any(request.client == "bob" for request in here.engine.requests))
        here.engine.hold.set()
        assert sorted(answer.status_code for answer in await asyncio.gather(*anns)) == [200, 200, 429, 429, 429]
        assert (await bobs).status_code == 200


async def test_jobs_wait_in_a_line_and_do_not_shut_out_who_waits_for_an_answer() -> None:
    async with house() as here:
        here.engine.hold = asyncio.Event()
        accepted = [await here.post(y4m(moving(5)), ANN, LATER) for _ in range(clip_places.WAITING_OF_ONE + 2)]
        assert [answer.status_code for answer in accepted] == [202] * (clip_places.WAITING_OF_ONE + 1) + [429]
        assert [answer.json().get("state") for answer in accepted[:2]] == ["running", "queued"]
        assert accepted[-1].json()["code"] == "client_limit"
        bobs = await here.post(y4m(moving(5)), BOB, LATER)
        assert bobs.json()["state"] == "running"
        calls = asyncio.ensure_future(here.post(y4m(moving(5)), ANN))
        await _until(lambda: len(here.engine.requests) >= 3)
        here.engine.hold.set()
        assert (await calls).status_code == 200
        for answer in accepted[:-1]:
            await here.comes_to(answer.headers["location"], ANN, "done")


async def test_the_frames_of_all_clips_together_are_bounded() -> None:
    """Room for one clip's frames: a second caller is refused, a job waits, and both get theirs when there is room."""
    body = y4m(moving(5))
    async with house(max_inflight_bytes=60 * moving(1)[0].pixels.nbytes) as here:
        here.engine.hold = asyncio.Event()
        first = asyncio.ensure_future(here.post(body, ANN, query="ahead=3"))
        await _until(lambda: here.engine.requests)
        refused = await here.post(body, BOB, query="ahead=3")
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert "bytes of frames" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 5
        asked = len(here.engine.requests)
        job = await here.post(body, BOB, LATER, query="ahead=3")
        await asyncio.sleep(0.05)
        assert len(here.engine.requests) == asked, "the job waits for room"
        here.engine.hold.set()
        assert (await first).status_code == 200
        await here.comes_to(job.headers["location"], BOB, "done")
        assert (await here.post(body, BOB, query="ahead=3")).status_code == 200


async def test_callers_take_turns_in_the_line() -> None:
    places, order, go = ClipPlaces(), list[str](), asyncio.Event()

    async def job(name: str) -> None:
        ticket = places.enter(name[0])
        await ticket.turn.wait()
        order.append(name)
        await go.wait()
        places.leave(ticket)
        places.leave(ticket)

    jobs = []
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        jobs.append(asyncio.ensure_future(job(name)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["a1", "b1"]
    go.set()
    await asyncio.gather(*jobs)
    assert order.index("c1") < order.index("a2")
    assert order.index("b2") < order.index("a3")
    assert places.enter("a").turn.is_set()


async def test_a_job_withdrawn_from_the_line_frees_its_turn() -> None:
    async with house() as here:
        here.engine.hold = asyncio.Event()
        first = await here.post(y4m(moving(5)), ANN, LATER)
        waiting = await here.post(y4m(moving(5)), ANN, LATER)
        third = await here.post(y4m(moving(5)), ANN, LATER)
        for job in (waiting, first):
            shown = await here.http.delete(job.headers["location"], headers=ANN)
            assert shown.json()["state"] == "cancelled"
        here.engine.hold.set()
        await here.comes_to(third.headers["location"], ANN, "done")


# --- what is kept -----------------------------------------------------------------------------------------------------


async def test_one_who_keeps_all_clips_makes_room_for_another_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_jobs, "MOST", 4)
    async with house() as here:
        kept = [await here.job(ANN, y4m(moving(3))) for _ in range(4)]
        assert (await here.post(y4m(moving(3)), ANN, LATER)).status_code == 429
        bobs = [await here.job(BOB, y4m(moving(3))) for _ in range(2)]
        left = [(await here.http.get(path, headers=ANN)).status_code for path in kept]
        assert left == [404, 404, 200, 200]
        # Half is his share: he has as many as she now, and more would be taken from her.
        assert (await here.post(y4m(moving(3)), BOB, LATER)).status_code == 429
        assert {(await here.http.get(path, headers=BOB)).status_code for path in bobs} == {200}


async def test_a_deleted_clip_makes_room_for_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_jobs, "MOST", 1)
    async with house() as here:
        path = await here.job(ANN, y4m(moving(3)))
        await here.http.delete(path, headers=ANN)
        await here.job(ANN, y4m(moving(3)))


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> list[ClipDisk]:
    """Every disk that the service makes."""
    made: list[ClipDisk] = []

    class Watched(ClipDisk):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            made.append(self)

    monkeypatch.setattr(clip_resources, "ClipDisk", Watched)
    return made


async def test_a_clip_that_is_known_to_take_more_than_one_may_is_refused_at_once(disks: list[ClipDisk]) -> None:
    """Whoever waits for it was sent half of the limit, and then cut off; a job was accepted and failed late."""
    async with house(max_video_bytes=2**20) as here:
        for headers in (ANN, {**ANN, **LATER}):
            answer = await here.post(y4m(moving(60)), headers, query="every=1000&compare=1")
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert "MP4" in answer.json()["detail"]
        assert (here.engine.requests, disks[-1].held) == ([], 0)


async def test_a_clip_that_takes_more_than_one_may_fails_and_leaves_nothing(
    disks: list[ClipDisk], tmp_path: Path
) -> None:
    """Its header does not tell how many frames it has: it is begun."""
    limit = 2**20
    async with house(max_video_bytes=limit) as here:
        film = Film(moving(60), tuple(range(0, 6000, 100)))
        body = write(tmp_path / "film.mkv", film).read_bytes()
        path = await here.job(ANN, body, "failed", "every=1000&compare=1")
        shown = (await here.http.get(path, headers=ANN)).json()
        assert shown["error"]["code"] == "too_large"
        assert "bytes" in shown["error"]["message"]
        assert (await here.http.get(f"{path}/result", headers=ANN)).status_code == 413
        await _until(lambda: disks[-1].held == 0)
        # The same film in its own size fits.
        await here.job(ANN, body, query="every=1000")


async def test_a_caller_who_waits_is_bounded_too(disks: list[ClipDisk]) -> None:
    async with house(max_video_bytes=2**16) as here:
        answer = await here.post(y4m(moving(2, 96, 96)), ANN)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert disks[-1].held == 0


async def test_the_disk_is_shared_and_who_has_most_gives_first() -> None:
    disk = ClipDisk(1000)
    dropped: list[str] = []

    async def finished(caller: str, nbytes: int, name: str, *, fetched: bool = False) -> None:
        file = disk.open(caller)
        await file.write(b"x" * nbytes)

        def give_up() -> None:
            dropped.append(name)
            file.drop()

        file.give_up = give_up
        file.expendable = lambda: fetched

    await finished("ann", 300, "ann 1")
    await finished("ann", 300, "ann 2")
    await finished("cid", 100, "cid fetched", fetched=True)
    await finished("bob", 200, "bob 1")
    own = disk.open("ann")
    with pytest.raises(QueueFull, match="750"):
        await own.write(b"x" * 200)
    await finished("bob", 100, "bob 2")
    assert (dropped, disk.held) == ([], 1000)
    more = disk.open("bob")
    await more.write(b"x" * 100)
    assert dropped == ["cid fetched"]
    await more.write(b"x" * 100)
    assert dropped == ["cid fetched", "ann 1"]
    with pytest.raises(TooLarge, match="500"):
        await more.write(b"x" * 400)
    assert disk.held == 300 + 200 + 100 + 200


async def test_an_upload_makes_way_for_a_caller_with_less() -> None:
    disk = ClipDisk(1000)
    uploads = [disk.open("ann", spooled=True) for _ in range(2)]
    for upload in uploads:
        upload.give_up = upload.drop
        await upload.write(b"x" * 370)
    bobs = disk.open("bob", spooled=True)
    await bobs.write(b"x" * 300)
    with pytest.raises(QueueFull, match="given up"):
        await uploads[0].write(b"x")
    await uploads[1].write(b"x")
    for upload in (bobs, uploads[1]):
        upload.drop()
    assert disk.held == 0


# --- downloads --------------------------------------------------------------------------------------------------------


async def test_every_one_of_several_readers_gets_the_whole_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_disk, "PIECE", 1000)
    async with house() as here:
        body = y4m(moving(9))
        path = await here.job(ANN, body, query="every=1000")
        answers = await asyncio.gather(*(here.http.get(f"{path}/result", headers=ANN) for _ in range(6)))
        wanted = (await here.post(body, ANN, query="every=1000")).content
        assert {answer.content for answer in answers} == {wanted}
        assert {answer.headers["content-length"] for answer in answers} == {str(len(wanted))}


async def test_a_clip_is_read_a_piece_at_a_time_and_its_bytes_go_with_it() -> None:
    disk = ClipDisk(8 * clip_disk.PIECE)
    file = disk.open("ann")
    for k in range(3):
        await file.write(bytes([k]) * clip_disk.PIECE)
    reader, other = file.pieces(), file.pieces()
    assert {len(await anext(reader)), len(await anext(other))} == {clip_disk.PIECE}
    assert [piece[:1] async for piece in other] == [b"\1", b"\2"]
    file.drop()
    with pytest.raises(Exception, match="deleted while it was read"):
        await anext(reader)
    assert disk.held == 0


async def test_a_range_of_a_clip_is_answered_with_just_that() -> None:
    async with house() as here:
        path = await here.job(ANN, y4m(moving(4)), query="every=1000") + "/result"
        whole = await here.http.get(path, headers=ANN)
        total, etag = len(whole.content), whole.headers["etag"]
        assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
        for text, start, stop in (
            ("bytes=0-1", 0, 2),
            ("bytes=10-", 10, total),
            ("bytes=-5", total - 5, total),
            ("bytes=3-999999999", 3, total),
        ):
            part = await here.http.get(path, headers={**ANN, "Range": text, "If-Range": etag})
            assert (part.status_code, part.content) == (206, whole.content[start:stop])
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{total}"
            assert part.headers["content-length"] == str(stop - start)
        for text in ("bytes=0-1,4-5", "bytes=5-2", "frames=0-1", "bytes=-"):  # the whole is a right answer to any range
            answer = await here.http.get(path, headers={**ANN, "Range": text})
            assert (answer.status_code, len(answer.content)) == (200, total)
        other = await here.http.get(path, headers={**ANN, "Range": "bytes=0-1", "If-Range": '"other"'})
        assert (other.status_code, len(other.content)) == (200, total)
        for text in (f"bytes={total}-", "bytes=-0"):
            refused = await here.http.get(path, headers={**ANN, "Range": text})
            assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{total}")


async def test_a_look_at_a_clip_is_no_fetching_but_all_its_parts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Safari asks for two bytes first; a clip that then made room for another was lost to it."""
    monkeypatch.setattr(video_jobs, "MOST", 1)
    async with house() as here:
        path = await here.job(ANN, y4m(moving(4)), query="every=1000") + "/result"
        head = await here.http.head(path, headers=ANN)
        total = int(head.headers["content-length"])
        assert (head.status_code, head.content, head.headers["accept-ranges"]) == (200, b"", "bytes")
        for text in ("bytes=0-1", f"bytes={total - 2}-"):
            assert (await here.http.get(path, headers={**ANN, "Range": text})).status_code == 206
        later = {**ANN, "Prefer": "respond-async"}
        assert (await here.post(y4m(moving(3)), later, query="every=1000")).status_code == 429
        for text in ("bytes=0-99", "bytes=100-"):
            await here.http.get(path, headers={**ANN, "Range": text})
        assert (await here.post(y4m(moving(3)), later, query="every=1000")).status_code == 202


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_an_accepted_clip_is_finished_while_the_service_drains() -> None:
    async with house(max_client_items=0) as here:
        here.engine.hold = asyncio.Event()
        call = asyncio.ensure_future(here.post(y4m(moving(12)), ANN, query="every=1"))
        job = await here.post(y4m(moving(12)), BOB, LATER, query="every=1")
        await _until(lambda: {request.client for request in here.engine.requests} == {"ann", "bob"})
        queued = await here.post(y4m(moving(3)), BOB, LATER)
        here.gate.stop_advertising()
        empty = asyncio.ensure_future(here.gate.drain(20))
        await asyncio.sleep(0)
        here.engine.hold.set()
        assert await empty
        assert (await call).status_code == 200
        assert len([request for request in here.engine.requests if request.client == "ann"]) == 10
        await here.comes_to(job.headers["location"], BOB, "done")
        shown = await here.comes_to(queued.headers["location"], BOB, "failed")
        assert shown["error"]["code"] == "unavailable"
        assert (await here.post(y4m(moving(3)), ANN)).status_code == 503


async def test_a_clip_that_outlasts_the_grace_does_not_hold_the_service() -> None:
    async with house() as here:
        here.engine.hold = asyncio.Event()
        call = asyncio.ensure_future(here.post(y4m(moving(5)), ANN))
        await _until(lambda: here.engine.requests)
        assert not await here.gate.drain(0.01)
        here.engine.hold.set()
        await call


# --- what is not a clip -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "field"), [("every=2&evry=3", "evry"), ("lost=1&lost=2", "lost")])
async def test_an_option_that_is_unknown_or_given_twice_is_refused(query: str, field: str) -> None:
    async with house() as here:
        answer = await here.post(y4m(moving(3)), ANN, query=query)
        assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_an_answer_that_breaks_off_counts_and_logs_by_its_code(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "service.access")
    async with wired() as service:
        service.small.app.include_router(video.router(service.small.parts))
        frames = y4m(moving(30))
        for body, failure, outcome, code in (
            (frames[:-9], None, "invalid", "invalid_frame"),
            (frames, Internal("the device is on fire"), "error", "internal"),
            (frames, ValueError("a fault of our own"), "error", "internal"),
        ):
            caplog.clear()
            service.small.engine.failure = failure
            async with service.connect() as wire:
                head = f"POST /v1/video?every=8 HTTP/1.1\r\nHost: localhost\r\nAccept: {Y4M['Accept']}\r\n"
                await wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                assert b" 200 " in await wire.reader.readline()
                assert await wire.closed()
            counted = {"transport": "rest", "endpoint": "/v1/video", "outcome": outcome}
            await until(lambda of=counted: service.small.metric("dmvfn_requests_total", **of) >= 1)  # type: ignore[misc]
            access = [record for record in caplog.records if record.name == "service.access"]
            assert [(vars(record)["outcome"], vars(record)["code"]) for record in access] == [(outcome, code)]
            traces = [record for record in caplog.records if record.exc_info]
            assert len(traces) == isinstance(failure, ValueError)
