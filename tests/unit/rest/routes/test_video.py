from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.errors import Internal
from service.core.interfaces import Readiness
from service.imaging.codec import FrameLimits
from service.rest.app import build
from service.rest.routes import video
from service.serving.jobs import video as video_jobs
from service.serving.video import clip_places, conversion
from service.serving.video.clip import Timed
from service.serving.video.y4m import Y4mSource
from service.settings import Settings
from tests.unit.rest.small import ShiftEngine, running
from tests.unit.serving.video.clips import moving, write_mp4, y4m

Y4M = {"Accept": "video/x-yuv4mpeg2"}


class Server:
    """A client of a small service with the video routes, and its engine."""

    def __init__(self, http: httpx.AsyncClient, engine: ShiftEngine) -> None:
        self.http, self.engine = http, engine

    async def post(self, query: str, body: bytes, **headers: str) -> httpx.Response:
        return await self.http.post(f"/v1/video?{query}", content=body, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    keys = (("ann", "ann-s-key"), ("bob", "bob-s-key"))
    async with running(Settings(api_keys=keys, max_pixels=100_000)) as small:
        transport = httpx.ASGITransport(build(small.parts, (video.router(small.parts),)))
        headers = {"Authorization": "Bearer ann-s-key"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http:
            yield Server(http, small.engine)


def _pixels(data: bytes) -> list[np.ndarray[Any, Any]]:
    source = Y4mSource(io.BytesIO(data), limits=FrameLimits())
    return [item.frame.pixels for item in source if isinstance(item, Timed)]


async def test_y4m_in_y4m_out_with_every_second_frame_predicted(server: Server) -> None:
    frames = moving(6)
    answer = await server.post("every=2", y4m(frames), **Y4M)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/x-yuv4mpeg2"
    shown = _pixels(answer.content)
    # The small service's engine moves everything one pixel down.
    wanted = [np.roll(frames[k - 1].pixels, 1, axis=0) if k in (3, 5) else frames[k].pixels for k in range(6)]
    for k in (0, 1, 2, 4):
        assert np.abs(shown[k].astype(int) - wanted[k]).mean() < 12  # 420 blurs colours at edges
    assert len(server.engine.requests) == 2
    assert np.abs(server.engine.requests[0].current.pixels.astype(int) - frames[2].pixels).max() <= 2
    assert {request.client for request in server.engine.requests} == {"ann"}


async def test_a_clip_s_frames_take_turns_as_its_caller_s_address_where_there_is_no_key() -> None:
    """All such clips were one caller together, beside jobs and calls of addresses each on its own."""
    async with running(Settings(max_pixels=100_000)) as small:
        transport = httpx.ASGITransport(build(small.parts, (video.router(small.parts),)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            server = Server(http, small.engine)
            assert (await server.post("every=2", y4m(moving(6)), **Y4M)).status_code == 200
            later = await server.post("every=2", y4m(moving(6)), Prefer="respond-async", **Y4M)
            assert (await _final(server, later.headers["location"]))["state"] == "done"
            assert [request.client for request in small.engine.requests] == ["address 127.0.0.1"] * 4


async def test_lost_frames_by_number_and_a_comparison_three_wide(server: Server) -> None:
    answer = await server.post("lost=2-3&compare=1", y4m(moving(5)), **Y4M)
    assert [picture.shape for picture in _pixels(answer.content)] == [(56, 152, 3)] * 5
    assert len(server.engine.requests) == 2


async def test_mp4_in_mp4_out_with_sound_and_every_frame(server: Server, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    write_mp4(tmp_path / "in.mp4", moving(10), [100 * k for k in range(10)], Fraction(1, 1000), sound=True)
    answer = await server.post("ahead=2", (tmp_path / "in.mp4").read_bytes())
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as container:
        shown = [round(float(frame.time), 2) for frame in container.decode(video=0)]
    assert shown == [k / 10 for k in range(10)]
    with av.open(io.BytesIO(answer.content)) as container:
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) > 20


async def test_options_in_the_form_are_told_to_stand_in_the_query(server: Server) -> None:
    answer = await server.http.post("/v1/video", files={"file": y4m(moving(3))}, data={"every": "2"})
    assert (answer.status_code, answer.json()["field"]) == (400, "ahead")
    assert "in the query" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "body", "status", "field"),
    [
        ("", b"x", 400, "ahead"),
        ("ahead=1&every=2", b"x", 400, "ahead"),
        ("ahead=0", b"x", 400, "ahead"),
        ("ahead=99", b"x", 400, "ahead"),
        ("lost=x", b"x", 400, "lost"),
        ("fps=60&ahead=1", b"x", 400, "fps"),
        ("fps=1/0", b"x", 400, "fps"),
        ("fps=241", b"x", 400, "fps"),
        ("conceal=1&compare=1", b"x", 400, "conceal"),
        ("conceal=perhaps", b"x", 400, "conceal"),
        ("fps=60&route=sample", b"x", 400, "route"),
        ("every=2&route=sample", b"x", 400, "route"),
        ("every=2&scale=3", b"x", 400, "scale"),
        ("every=2", b"", 400, "body"),
        ("every=2", b"this is no video", 422, "body"),
        ("every=2", b"YUV4MPEG2 W60000 H60000 F25:1\n", 413, "body"),
        ("every=2", b"YUV4MPEG2 W3400 H20 F25:1\n", 422, "body"),
        ("every=2", b"YUV4MPEG2 W4 H4 F25:1\n", 422, "body"),
        ("every=2", y4m(moving(3))[:-9], 422, "body"),
    ],
)
async def test_what_cannot_be_done_is_told_as_a_problem(
    server: Server, query: str, body: bytes, status: int, field: str
) -> None:
    answer = await server.post(query, body, **Y4M)
    # A clip that ends early may be found out after the first frames were sent: then the connection breaks instead.
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_a_clip_comes_out_at_another_rate_waited_for_or_not(server: Server) -> None:
    body = y4m(moving(5))
    answer = await server.post("fps=20", body, **Y4M)
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"YUV4MPEG2 W48 H32 F20:1")
    assert len(_pixels(answer.content)) == 10
    assert [request.options.times for request in server.engine.requests] == [(0.5,)] * 4
    path = (await server.post("fps=20", body, Prefer="respond-async", **Y4M)).headers["location"]
    done = await _final(server, path)
    assert (done["state"], done["items"], done["done"]) == ("done", 10, 10)
    assert (await server.http.get(f"{path}/result")).content == answer.content


async def test_a_rate_may_not_make_more_frames_than_a_clip_may_have(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "MAX_FRAMES", 9)
    for headers in (Y4M, {**Y4M, "Prefer": "respond-async"}):
        answer = await server.post("fps=20", y4m(moving(5)), **headers)
        assert (answer.status_code, answer.json()["field"]) == (400, "fps")
    assert (await server.post("fps=5", y4m(moving(9)), **Y4M)).status_code == 200
    assert (await server.post("fps=5", y4m(moving(10)), **Y4M)).json()["field"] == "body"


async def test_other_answers_than_video_are_not_acceptable(server: Server) -> None:
    assert (await server.post("every=2", y4m(moving(3)), Accept="image/png")).status_code == 406


async def test_what_is_accepted_may_stand_in_several_fields(server: Server) -> None:
    headers = [("Accept", "image/png"), ("Accept", "video/x-yuv4mpeg2")]
    answer = await server.http.post("/v1/video?every=2", content=y4m(moving(3)), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/x-yuv4mpeg2")


async def test_a_clip_without_frames_is_none(server: Server) -> None:
    answer = await server.post("every=2", b"YUV4MPEG2 W32 H16 F25:1\n", Accept="video/mp4")
    assert (answer.status_code, answer.json()["field"]) == (422, "body")


async def test_not_ready_is_told_before_the_body_is_read(server: Server) -> None:
    server.engine.state = Readiness(False, "draining")
    answer = await server.post("every=2", y4m(moving(3)))
    assert (answer.status_code, answer.json()["reason"]) == (503, "draining")


async def test_only_so_many_clips_are_made_at_once(server: Server) -> None:
    server.engine.hold = asyncio.Event()
    most = clip_places.CALLS_OF_ONE
    running_ = [asyncio.ensure_future(server.post("every=1", y4m(moving(9)), **Y4M)) for _ in range(most)]
    async with asyncio.timeout(60):
        while len(server.engine.requests) < most:
            await asyncio.sleep(0.01)
    refused = await server.post("every=1", y4m(moving(9)), **Y4M)
    assert (refused.status_code, refused.json()["code"]) == (429, "client_limit")
    assert int(refused.headers["retry-after"]) >= 5
    server.engine.hold.set()
    assert [answer.status_code for answer in await asyncio.gather(*running_)] == [200, 200]
    assert (await server.post("every=1", y4m(moving(3)), **Y4M)).status_code == 200


async def _final(server: Server, path: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            told: dict[str, Any] = (await server.http.get(path)).json()
            if told["state"] != "running":
                return told
            await asyncio.sleep(0.01)


async def test_as_a_job_it_has_progress_and_a_result_and_an_owner(server: Server) -> None:
    body = y4m(moving(6))
    accepted = await server.post("every=2", body, Prefer="respond-async", **Y4M)
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    path = accepted.headers["location"]
    done = await _final(server, path)
    assert (done["state"], done["done"], done["progress"]) == ("done", 6, 1.0)
    result = await server.http.get(f"{path}/result")
    assert result.headers["content-type"] == "video/x-yuv4mpeg2"
    assert result.content == (await server.post("every=2", body, **Y4M)).content
    other = await server.http.get(path, headers={"Authorization": "Bearer bob-s-key"})
    assert other.status_code == 404
    await server.http.delete(path)
    assert (await server.http.get(path)).status_code == 404


async def test_a_job_that_fails_says_why(server: Server) -> None:
    server.engine.failure = Internal("the device is on fire")
    path = (await server.post("every=2", y4m(moving(6)), Prefer="respond-async", **Y4M)).headers["location"]
    told = await _final(server, path)
    assert (told["state"], told["error"]["code"]) == ("failed", "internal")
    assert (await server.http.get(f"{path}/result")).status_code == 500


async def test_a_cancelled_job_stops_and_frees_its_place(server: Server) -> None:
    server.engine.hold = asyncio.Event()
    for _ in range(4):
        accepted = await server.post("every=1", y4m(moving(9)), Prefer="respond-async", **Y4M)
        assert accepted.status_code == 202
        path = accepted.headers["location"]
        waiting = await server.http.get(f"{path}/result")
        assert (waiting.status_code, waiting.json()["code"]) == (409, "conflict")
        assert (await server.http.delete(path)).json()["state"] == "cancelled"
    assert server.engine.ran == []


async def test_clips_that_were_fetched_make_room_and_others_do_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_jobs, "MOST", 2)

    async def begin() -> httpx.Response:
        return await server.post("every=2", y4m(moving(3)), Prefer="respond-async", **Y4M)

    async def made(job: httpx.Response) -> str:
        path = str(job.headers["location"])
        while (await server.http.get(path)).json()["state"] != "done":
            await asyncio.sleep(0.01)
        return path

    kept = await made(await begin())
    fetched = await made(await begin())
    refused = await begin()
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert (await server.http.get(f"{fetched}/result")).status_code == 200
    assert (await begin()).status_code == 202
    assert (await server.http.get(fetched)).status_code == 404
    assert (await server.http.get(f"{kept}/result")).status_code == 200
