from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from service.cli.video import main
from service.imaging.codec import FrameLimits
from service.serving.video.clip import Timed
from service.serving.video.y4m import Y4mSource
from service.settings import Settings
from tests.system.e2e.process import ROOT, environment, tiny_weights
from tests.unit.serving.video.clips import moving, write_mp4, y4m


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(weights=tiny_weights(tmp_path), threads=1)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.y4m"
    path.write_bytes(y4m(moving(9)))
    return path


def _frames(path: Path) -> int:
    return sum(isinstance(item, Timed) for item in Y4mSource(io.BytesIO(path.read_bytes()), limits=FrameLimits()))


@pytest.mark.parametrize("how", [["--ahead", "2"], ["--every", "2", "--compare"], ["--every", "3", "--blocks", "2"]])
def test_every_frame_comes_out_again(
    clip: Path, settings: Settings, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = clip.with_name("out.y4m")
    assert main([str(clip), "-o", str(out), *how], settings) == 0
    assert _frames(out) == 9
    told = capsys.readouterr().err
    assert "9/9 frames" in told
    assert ("PSNR over" in told) == ("--compare" in how)


def test_a_clip_comes_out_at_another_rate(clip: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = clip.with_name("out.y4m"), Y4mSource(io.BytesIO(clip.read_bytes()), limits=FrameLimits()).info.rate
    assert main([str(clip), "-o", str(out), "--fps", f"{2 * before}", "--conceal"], settings) == 0
    assert _frames(out) == 18
    assert Y4mSource(io.BytesIO(out.read_bytes()), limits=FrameLimits()).info.rate == 2 * before
    assert "18/18 frames" in capsys.readouterr().err


def test_lost_frames_come_from_a_list_in_a_file(clip: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "lost.txt").write_text("3\n5-6\n")
    out = tmp_path / "out.y4m"
    assert main([str(clip), "-o", str(out), "--fill-lost", str(tmp_path / "lost.txt"), "-q"], settings) == 0
    assert _frames(out) == 9


def test_a_list_of_lost_frames_may_begin_with_the_mark_of_windows_editors(
    clip: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, out = clip.with_name("lost.txt"), clip.with_name("out.y4m")
    lost.write_bytes(b"\xef\xbb\xbf3\r\n5-6\r\n")
    assert main([str(clip), "-o", str(out), "--fill-lost", str(lost), "-q"], settings) == 0
    assert _frames(out) == 9
    lost.write_bytes("3\n".encode("utf-16"))
    assert main([str(clip), "-o", str(clip.with_name("other.y4m")), "--fill-lost", str(lost), "-q"], settings) == 1
    assert "no text in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--ahead", "99"], "--ahead"),
        (["--ahead", "0"], "at least 1"),
        (["--every", "2", "--route", "sample"], "sample"),
        (["--fill-lost", "nowhere.txt"], "nowhere.txt"),
        (["--fps", "1/0"], "--fps"),
        (["--fps", "60", "--ahead", "2"], "not with --ahead"),
        (["--conceal", "--compare"], "--compare"),
        ([], "say one of --ahead"),
        (["--every", "2", "-o", ""], "-o names no file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    clip: Path, settings: Settings, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(clip), "-o", str(clip.with_name("out.y4m")), *words], settings) == 1
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1
    assert not clip.with_name("out.y4m").exists()


def test_an_mp4_comes_out_with_its_sound_and_length(settings: Settings, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    write_mp4(tmp_path / "in.mp4", moving(10), [100 * k for k in range(10)], Fraction(1, 1000), sound=True)
    assert main([str(tmp_path / "in.mp4"), "-o", str(tmp_path / "out.mp4"), "--ahead", "1", "-q"], settings) == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_as_a_pipe_it_reads_and_writes_y4m(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "video", "-", "-o", "-", "--every", "2", "--compare"]
    ran = subprocess.run(
        command, input=clip.read_bytes(), capture_output=True, cwd=ROOT, env=environment(tmp_path), timeout=120
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert re.match(rb"YUV4MPEG2 W152 H56 F10:1", ran.stdout)
    assert ran.stdout.count(b"FRAME\n") == 9
    assert b"PSNR over" in ran.stderr


def test_a_pipe_gets_every_byte_though_signals_cut_its_writes_short(tmp_path: Path) -> None:
    frames, height, width = 3, 480, 640
    writes = (
        "import signal, sys; from types import SimpleNamespace; from fractions import Fraction; import numpy as np\n"
        "from service.core.types import Frame; from service.serving.video.clip import Info, Timed\n"
        "from service.serving.video.files import open_sink\n"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\n"
        f"frame = Frame(np.zeros(({height}, {width}, 3), np.uint8))\n"
        f"clip = SimpleNamespace(info=Info({width}, {height}, Fraction(10), Fraction(1, 10)))\n"
        f"sink = open_sink('-', clip, {width}, {height})\n"
        f"for at in range({frames}): sink.write(Timed(frame, at))\n"
        "sink.close(); signal.setitimer(signal.ITIMER_REAL, 0)"
    )
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}  # as in our image
    with subprocess.Popen([sys.executable, "-c", writes], stdout=subprocess.PIPE, cwd=ROOT, env=environ) as child:
        assert child.stdout is not None
        header = child.stdout.readline()
        time.sleep(0.2)  # the pipe is full by now, and the next signals find its writer waiting
        body = child.stdout.read()
    assert header.startswith(b"YUV4MPEG2")
    assert child.returncode == 0
    assert len(body) == frames * (len(b"FRAME\n") + height * width * 3 // 2)


def test_a_file_that_is_there_is_overwritten_only_by_force(
    clip: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the rule of `predict`; it once overwrote without a word."""
    out = tmp_path / "out.y4m"
    out.write_text("mine")
    words = [str(clip), "-o", str(out), "--every", "2", "-q"]
    assert main(words, settings) == 1
    assert capsys.readouterr().err == f"video: {out} exists already; --force overwrites it\n"
    assert out.read_text() == "mine"
    assert main([*words, "--force"], settings) == 0
    assert _frames(out) == 9


@pytest.mark.parametrize("name", ["OUT.Y4M", "OUT.MP4"])
def test_an_ending_may_be_in_capitals(clip: Path, settings: Settings, tmp_path: Path, name: str) -> None:
    """As cameras and Windows write it, and as `predict` reads it."""
    assert main([str(clip), "-o", str(tmp_path / name), "--every", "2", "-q"], settings) == 0
    start = (tmp_path / name).read_bytes()[:10]
    assert start == b"YUV4MPEG2 " if name.endswith("Y4M") else start[4:8] == b"ftyp"


@pytest.mark.parametrize("ending", ["y4m", "mp4"])
def test_a_name_may_have_a_colon(
    clip: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """FFmpeg takes what stands before one for a protocol: "Protocol not found"."""
    monkeypatch.chdir(tmp_path)
    assert main([str(clip), "-o", f"12:00:00.{ending}", "--every", "2", "-q"], settings) == 0
    assert main([f"12:00:00.{ending}", "-o", "concat:out.mp4", "--every", "2", "-q"], settings) == 0
    assert (tmp_path / "concat:out.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize(("name", "start"), [("pipe.y4m", b"YUV4MPEG2 "), ("pipe.mp4", b"\0\0\0")])
def test_a_named_pipe_is_written_and_stays_one(
    clip: Path, settings: Settings, tmp_path: Path, name: str, start: bytes
) -> None:
    """A file took its place, and whoever read from it waited for ever."""
    pipe, received = tmp_path / name, list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert main([str(clip), "-o", str(pipe), "--every", "2", "-q"], settings) == 0
    reader.join(60)
    assert (pipe.is_fifo(), received[0].startswith(start)) == (True, True)


def test_a_folder_is_no_output(
    clip: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was told when the whole clip was made, by a traceback."""
    (tmp_path / "out.mp4").mkdir()
    assert main([str(clip), "-o", str(tmp_path / "out.mp4"), "--every", "2", "-q"], settings) == 1
    assert capsys.readouterr().err == f"video: {tmp_path / 'out.mp4'} is a folder; name a file\n"
