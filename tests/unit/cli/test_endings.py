"""How a command ends that is told to stop, or whose output goes nowhere: in order, in one line, with a status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli.endings import ended_in_order
from tests.system.e2e.process import ROOT, environment
from tests.unit.imaging.pictures import file_of, noise
from tests.unit.serving.video.clips import moving, y4m

PATIENCE_S = 60.0


def _started(folder: Path, *words: str, stdin: int | None = None, stdout: Any = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service", *words]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(folder), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_clip_that_is_stopped_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """Its process waits for more of the clip, whose beginning has been written."""
    clip, out = y4m(moving(20)), tmp_path / "out"
    out.mkdir()
    words = ("video", "-", "-o", str(out / "out.y4m"), "--every", "8", "-q")
    with _started(tmp_path, *words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(clip[: len(clip) // 2])
        process.stdin.flush()
        _wait_for(lambda: any(out.iterdir()))
        process.send_signal(number)
        _, errors = process.communicate(clip[len(clip) // 2 :], timeout=PATIENCE_S)
    assert (process.returncode, list(out.iterdir())) == (128 + number, [])
    assert errors == b"video: stopped; nothing was written\n"


def test_a_command_that_is_stopped_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal came too late")

    assert ended_in_order("predict", work) == 130
    assert capsys.readouterr().err == "predict: stopped\n"


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert ended_in_order("keys", lambda: 3) == 3
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As nohup does it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def work() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    try:
        assert ended_in_order("video", work) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_that_nobody_reads_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with _started(tmp_path, "settings", stdout=writing) as process:
        os.close(writing)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_output_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, _started(tmp_path, "settings", stdout=full) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (1, b"settings: No space left on device\n")


def test_a_name_that_is_no_utf_8_is_printed_as_it_is(tmp_path: Path) -> None:
    """Once all was written, the command failed over its own report."""
    names = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/caf\xe9.png", b"/next\xe9.png")]
    Path(names[0]).write_bytes(file_of(noise(32, 48, 1), "PNG"))
    with _started(tmp_path, "predict", names[0], names[0], "-o", names[1], stdout=subprocess.PIPE) as process:
        told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert told.startswith(os.fsencode(names[1]) + b"  ")
