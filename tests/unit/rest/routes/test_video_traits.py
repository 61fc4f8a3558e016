"""POST /v1/video with clips that people have: forms, sound that does not fit, long ones, slow ones."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")

from service.core.types import Options  # noqa: E402
from service.rest.app import build  # noqa: E402
from service.rest.routes import video  # noqa: E402
from service.serving.video import conversion  # noqa: E402
from service.serving.video.clip_disk import ClipDisk  # noqa: E402
from service.serving.video.clip_memory import ClipMemory  # noqa: E402
from service.serving.video.output_frames import VideoParams  # noqa: E402
from service.serving.video.plan import Every  # noqa: E402
from service.settings import Settings  # noqa: E402
from tests.unit.rest.small import Small, running  # noqa: E402
from tests.unit.serving.video.clips import moving, y4m  # noqa: E402
from tests.unit.serving.video.films import Film, probe, write  # noqa: E402

MKV = {"Accept": "video/x-matroska"}


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with running(Settings(max_pixels=100_000)) as service:
        yield service


@pytest.fixture
async def http(small: Small) -> AsyncIterator[httpx.AsyncClient]:
    app = build(small.parts, (video.router(small.parts),))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_a_form_with_a_file_is_taken_as_the_file_is(http: httpx.AsyncClient) -> None:
    clip = y4m(moving(5))
    headers = {"Accept": "video/x-yuv4mpeg2"}
    plain = await http.post("/v1/video?every=2", content=clip, headers=headers)
    form = await http.post("/v1/video?every=2", files={"file": ("clip.y4m", clip)}, headers=headers)
    assert (form.status_code, form.content) == (200, plain.content)
    with_more = await http.post("/v1/video?every=2", files={"file": clip}, data={"every": "2"}, headers=headers)
    assert (with_more.status_code, with_more.json()["field"]) == (400, "body")
    assert "in the query" in with_more.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, br"])
async def test_a_compressed_body_is_refused_as_what_it_is(http: httpx.AsyncClient, coding: str) -> None:
    body = gzip.compress(y4m(moving(3)))
    answer = await http.post("/v1/video?every=2", content=body, headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.json()["field"]) == (415, "Content-Encoding")
    assert answer.json()["detail"] == "compressed bodies are not read; clips are small already"
    plain = {"Content-Encoding": "Identity", "Accept": "video/x-yuv4mpeg2"}
    answer = await http.post("/v1/video?every=2", content=gzip.decompress(body), headers=plain)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("query", "sounds", "note"),
    [
        ("", [], "track 2, pcm_mulaw, is left out, as .mp4 cannot hold it: sound=transcode encodes it anew"),
        ("&sound=transcode", ["aac"], "track 2, pcm_mulaw, is encoded anew"),
        ("&sound=none", [], None),
    ],
)
async def test_sound_that_does_not_fit_never_stops_a_clip(
    http: httpx.AsyncClient, tmp_path: Path, query: str, sounds: list[str], note: str | None
) -> None:
    film = write(tmp_path / "in.avi", Film(sounds=(("pcm_mulaw", 8000, ""),))).read_bytes()
    answer = await http.post(f"/v1/video?every=4{query}", content=film, headers={"Accept": "*/*"})
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("x-dmvfn-note") == note
    (tmp_path / "out.mp4").write_bytes(answer.content)
    assert [codec for codec, _ in probe(tmp_path / "out.mp4").sounds] == sounds
    assert len(probe(tmp_path / "out.mp4").times) == 8


async def test_a_job_tells_what_is_left_out_too(http: httpx.AsyncClient, tmp_path: Path) -> None:
    film = write(tmp_path / "in.avi", Film(sounds=(("pcm_mulaw", 8000, ""),))).read_bytes()
    job = await http.post("/v1/video?every=4", content=film, headers={"Prefer": "respond-async"})
    path = job.headers["location"]
    async with asyncio.timeout(60):
        while (document := (await http.get(path)).json())["state"] not in ("done", "failed"):
            await asyncio.sleep(0.02)
    assert "pcm_mulaw" in document["notes"][0]
    assert (await http.get(f"{path}/result")).headers["x-dmvfn-note"] == document["notes"][0]


async def test_another_word_for_sound_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/video?every=2&sound=loud", content=y4m(moving(3)))
    assert (answer.status_code, answer.json()["field"]) == (400, "sound")


@pytest.mark.parametrize("prefer", [{}, {"Prefer": "respond-async"}])
@pytest.mark.parametrize("suffix", [".mp4", ".y4m"])
async def test_a_clip_whose_header_says_too_many_frames_is_refused_at_once(
    http: httpx.AsyncClient,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    prefer: dict[str, str],
) -> None:
    monkeypatch.setattr(conversion, "MAX_FRAMES", 5)
    clip = y4m(moving(8)) if suffix == ".y4m" else write(tmp_path / "in.mp4", Film()).read_bytes()
    answer = await http.post("/v1/video?every=2", content=clip, headers=prefer)
    assert (answer.status_code, answer.json()["field"]) == (400, "body")
    assert "at most 5 frames; this one has 8" in answer.json()["detail"]
    assert small.engine.requests == []


async def test_a_clip_that_turns_out_too_long_breaks_off_with_the_limit_in_the_log(
    http: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "MAX_FRAMES", 5)
    caplog.set_level("INFO", logger="service")
    film = write(tmp_path / "in.mkv", Film()).read_bytes()
    with pytest.raises(AssertionError):  # the client's: an answer without an end
        await http.post("/v1/video?every=2", content=film, headers=MKV)
    assert any("at most 5 frames" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("accept", "suffix"), [("video/mp4", ".mp4"), ("video/x-matroska", ".mkv"), ("video/webm", ".webm")]
)
async def test_the_first_bytes_leave_while_the_clip_is_made(
    small: Small, tmp_path: Path, accept: str, suffix: str
) -> None:
    film = write(tmp_path / "in.mp4", Film(moving(40), tuple(range(0, 4000, 100))))
    file = ClipDisk(10**9).open("ann", spooled=True)
    await file.write(film.read_bytes())
    order = conversion.ClipOrder(VideoParams(Every(4)), Options(), suffix, accept)
    clip = conversion.Conversion(small.parts, order, "ann", file, 10**9, ClipMemory(10**9), patient=False)
    frames_at_pieces = [clip.done async for piece in clip.pieces() if piece]
    await clip.close()
    assert 1 <= frames_at_pieces[0] <= 8
    assert len(frames_at_pieces) > 5
