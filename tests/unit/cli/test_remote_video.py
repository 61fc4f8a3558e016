"""A folder of clips, handed to a service by the command line: made, gone on with, refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

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
async def served() -> AsyncIterator[tuple[str, ShiftEngine]]:
    """The address of a service that makes clips, and its engine."""
    async with wired(Settings(api_keys=(("ann", KEY),))) as service:
        parts = service.small.parts
        service.server.config.loaded_app = build(parts, (video.router(parts),))
        yield f"http://127.0.0.1:{service.port}", service.small.engine


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


def test_progress_tells_clips_frames_and_the_time_left() -> None:
    now = [0.0]
    progress = remote_video.FolderProgress(4, lambda: now[0])
    progress.frames["a"] = (0, 100)
    progress.line()
    now[0], progress.ended = 10.0, 1
    progress.frames = {"a": (100, 100), "b": (20, 100)}
    assert progress.line() == "[#####...............] 1/4 clips, 120 frames, 12.0 a second, about 0:23 left"
