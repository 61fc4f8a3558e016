"""A folder of clips, handed to a service by the command line: made, gone on with, refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.cli import clip_server, remote_video
from service.cli.video import main
from service.rest.app import build
from service.rest.routes import video
from service.settings import Settings
from tests.unit.rest.small import ShiftEngine
from tests.unit.rest.wired import until, wired
from tests.unit.serving.video.clips import moving, y4m

KEY = "ann-s-key-1"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_server, "SHORTEST_S", 0.01)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of three clips, one of them deeper, and a text."""
    (tmp_path / "films" / "old").mkdir(parents=True)
    for k, name in enumerate(("a.y4m", "b.y4m", "old/c.y4m")):
        (tmp_path / "films" / name).write_bytes(y4m(moving(5, seed=k)))
    (tmp_path / "films" / "notes.txt").write_text("no clip")
    return tmp_path / "films"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    return path


@asynccontextmanager
async def served(prefix: str = "") -> AsyncIterator[tuple[str, ShiftEngine]]:
    """The address of a service that makes clips, and its engine; below `prefix` by a proxy that takes it away."""
    async with wired(Settings(api_keys=(("ann", KEY),))) as service:
        parts = service.small.parts
        app = build(parts, (video.router(parts),))
        service.server.config.loaded_app = _below(prefix, app) if prefix else app
        yield f"http://127.0.0.1:{service.port}{prefix}", service.small.engine


def _below(prefix: str, app: ASGIApp) -> ASGIApp:
    """A proxy that puts in front of Location what it takes from paths, as nginx' `proxy_redirect` can."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        async def put_back(message: Message) -> None:
            fields = message.get("headers", ())
            message["headers"] = [(k, prefix.encode() + v if k == b"location" else v) for k, v in fields]
            await send(message)

        path = str(scope["path"])
        assert path.startswith(f"{prefix}/")
        await app({**scope, "path": path.removeprefix(prefix)}, receive, put_back)

    return proxy


async def command(*words: object) -> int:
    return await asyncio.to_thread(main, [str(word) for word in words], Settings())


async def test_a_folder_is_made_and_not_made_again(
    films: Path, tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = (films, "-o", out, "--every", 2, "--key-file", key_file)
    async with served() as (url, engine):
        assert await command(*words, "--server", url) == 0
        names = sorted(str(path.relative_to(out)) for path in out.rglob("*.y4m"))
        assert names == ["a.y4m", "b.y4m", "old/c.y4m"]
        assert "3 of 3 clips" in capsys.readouterr().err
        count = len(engine.requests)
        assert count == 3
        assert await command(*words, "--server", url) == 0
        assert len(engine.requests) == count, "what is there is not sent again"
        (films / "b.y4m").write_bytes(y4m(moving(5, seed=9)))
        assert await command(*words, "--server", url) == 0
        assert len(engine.requests) == count + 1, "but a clip that has changed is"


async def test_a_folder_is_made_at_another_rate(films: Path, tmp_path: Path, key_file: Path) -> None:
    async with served() as (url, engine):
        words = (films, "-o", tmp_path / "out", "--fps", "20", "--conceal", "--key-file", key_file, "--server", url)
        assert await command(*words) == 0
        assert {request.options.times for request in engine.requests} == {(0.5,)}
    assert (tmp_path / "out" / "a.y4m").read_bytes().startswith(b"YUV4MPEG2 W48 H32 F20:1")


async def test_a_service_may_be_below_a_path_of_a_proxy(films: Path, tmp_path: Path, key_file: Path) -> None:
    """Its Location was put behind that path once more: 404, and each clip was sent for ever."""
    async with served("/dmvfn") as (url, engine):
        words = (films / "a.y4m", "-o", tmp_path / "a.y4m", "--every", 2, "--key-file", key_file, "--server", url)
        assert await asyncio.wait_for(command(*words), 60) == 0
        assert len(engine.requests) == 1
    assert (tmp_path / "a.y4m").read_bytes().startswith(b"YUV4MPEG2 ")


async def test_an_ending_may_be_in_capitals(films: Path, tmp_path: Path, key_file: Path) -> None:
    async with served() as (url, _):
        words = (films / "a.y4m", "-o", tmp_path / "A.Y4M", "--every", 2, "--key-file", key_file, "--server", url)
        assert await command(*words) == 0
    assert (tmp_path / "A.Y4M").read_bytes().startswith(b"YUV4MPEG2 ")


async def test_a_run_that_was_stopped_goes_on_with_what_the_server_has(
    films: Path, tmp_path: Path, key_file: Path
) -> None:
    out, stop = tmp_path / "out", threading.Event()
    async with served() as (url, engine):
        engine.hold = asyncio.Event()
        server = clip_server.ClipServer(url, KEY, stop=stop)
        notes = remote_video.ClipNotes(tmp_path / "notes.json")
        folder = remote_video.RemoteFolder(server, {"every": "2", "sound": "copy"}, notes, stop)
        clips = remote_video.clips_of(films, out)
        running = asyncio.ensure_future(asyncio.to_thread(folder.run, clips, 3, None))
        await until(lambda: bool(engine.requests), 60)
        await until(lambda: _sent(tmp_path / "notes.json") == 3, 60)
        stop.set()
        engine.hold.set()
        await running
        again = remote_video.RemoteFolder(
            clip_server.ClipServer(url, KEY), {"every": "2", "sound": "copy"}, notes, threading.Event()
        )
        assert await asyncio.to_thread(again.run, clips, 3, None) == []
        assert len(engine.requests) == 3, "each frame was predicted once"
        assert len(list(out.rglob("*.y4m"))) == 3


def _sent(path: Path) -> int:
    return sum("job" in notes for notes in json.loads(path.read_text()).values()) if path.exists() else 0


async def test_one_bad_clip_fails_alone(
    films: Path, tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (films / "bad.mp4").write_bytes(b"no clip at all")
    async with served() as (url, _):
        words = (films, "-o", tmp_path / "out", "--every", 2, "--server", url, "--key-file", key_file)
        assert await command(*words) == 1
    told = capsys.readouterr().err
    assert "bad.mp4: " in told
    assert "3 of 4 clips" in told


async def test_a_wrong_key_and_wrong_words_are_told_in_one_line(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served() as (url, engine):
        out = ("-o", tmp_path / "out", "--server", url)
        assert await command(films, *out, "--every", 2) == 1
        assert await command(films, *out, "--every", 2, "--across-cuts") == 1
        assert await command(films, *out) == 1
        assert await command(films, *out, "--fps", "60", "--ahead", 2) == 1
        assert await command(films / "old", *out, "--every", 2, "--key-file", tmp_path / "nowhere") == 1
        assert await command(tmp_path / "nothing", *out, "--every", 2) == 1
        assert not engine.requests
    told = capsys.readouterr().err
    for words in ("API key", "say one of --ahead", "not with --ahead", "within scenes", "nowhere", "not there"):
        assert words in told, told


async def test_a_file_that_no_run_has_written_is_left_as_it_is(
    films: Path, tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a service it was overwritten without a word, the clip that was sent itself among them."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.y4m").write_bytes(b"precious")
    lone = films / "b.y4m"
    content = lone.read_bytes()
    async with served() as (url, _):
        words = ("--every", 2, "--server", url, "--key-file", key_file)
        assert await command(films, "-o", out, *words) == 1
        told = capsys.readouterr().err
        assert "a.y4m exists already; --force overwrites it" in told
        assert "2 of 3 clips" in told
        assert await command(lone, "-o", lone, *words) == 1
        assert await command(lone, "-o", tmp_path / "copy.y4m", *words) == 0
        assert await command(lone, "-o", out / "a.y4m", *words) == 1, "made before, under another name"
        assert ((out / "a.y4m").read_bytes(), lone.read_bytes()) == (b"precious", content)
        assert await command(films, "-o", out, *words, "--force") == 0
        assert await command(films, "-o", out, *words, "--blocks", 2) == 0, "what a run has written is its own"
    assert (out / "a.y4m").read_bytes().startswith(b"YUV4MPEG2")


async def test_a_run_may_write_again_what_one_that_was_stopped_wanted_to(
    films: Path, tmp_path: Path, key_file: Path
) -> None:
    out = tmp_path / "out"
    async with served() as (url, _):
        words = (films, "-o", out, "--server", url, "--key-file", key_file)
        assert await command(*words, "--every", 2) == 0
        notes = remote_video.ClipNotes(out / remote_video.NOTES)
        for clip in remote_video.clips_of(films, out):
            notes.write(clip, key="of other options", job="/v1/video/lost")
        assert await command(*words, "--every", 3) == 0


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"ann\nbob", "k\u2026".encode(), b"\xff\xfek\0"])
async def test_a_file_without_an_api_key_is_told(
    films: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """UTF-16 was a traceback, and so was what no header can carry."""
    (tmp_path / "key").write_bytes(content)
    words = (films, "-o", tmp_path / "out", "--every", 2, "--server", "127.0.0.1:9", "--key-file", tmp_path / "key")
    assert await command(*words) == 1
    assert f"{tmp_path / 'key'} holds no API key" in capsys.readouterr().err


async def test_a_key_file_may_begin_with_the_mark_of_windows_editors(films: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    async with served() as (url, _):
        words = ("--every", 2, "--server", url, "--key-file", tmp_path / "key")
        assert await command(films / "a.y4m", "-o", tmp_path / "out.y4m", *words) == 0


def test_progress_tells_clips_frames_and_the_time_left() -> None:
    now = [0.0]
    progress = remote_video.FolderProgress(4, lambda: now[0])
    progress.frames["a"] = (0, 100)
    progress.line()
    now[0], progress.ended = 10.0, 1
    progress.frames = {"a": (100, 100), "b": (20, 100)}
    assert progress.line() == "[#####...............] 1/4 clips, 120 frames, 12.0 a second, about 0:23 left"
