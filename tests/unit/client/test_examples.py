from __future__ import annotations

import re
import runpy
import threading
from pathlib import Path

import pytest

from service.settings import Settings
from tests.system.e2e.process import ROOT, SAMPLES
from tests.unit.client.serving import PATIENCE, Serving, serving


def test_quality_against_work_has_a_line_for_each_budget(
    running: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").symlink_to(SAMPLES / f"frame{k:02}.png")
    main = runpy.run_path(str(ROOT / "client" / "examples" / "quality.py"))["main"]
    main(str(tmp_path), running.url)
    told = capsys.readouterr().out
    rows = re.findall(r"^(repeat|\d blocks|auto) +([\d.]+) dB +([\d.]+)  #+$", told, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["repeat", *(f"{k} blocks" for k in range(1, 10)), "auto"]
    work = [float(flops) for _, _, flops in rows[:-1]]
    assert work == sorted(work)


def test_too_few_frames_are_told(tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "client" / "examples" / "quality.py"))["main"]
    with pytest.raises(SystemExit, match="at least three"):
        main(str(tmp_path), "http://127.0.0.1:9")


def _clip(folder: Path, count: int) -> None:
    for k in range(count):
        (folder / f"{k:02}.png").symlink_to(SAMPLES / f"frame{k:02}.png")


def test_live_video_is_answered_to_its_end(
    running: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _clip(tmp_path, 8)
    main = runpy.run_path(str(ROOT / "client" / "examples" / "live.py"))["main"]
    main(str(tmp_path), running.grpc, "25")
    told = capsys.readouterr().out
    counts = {name: int(count) for name, count in re.findall(r"(first|prediction|dropped) (\d+)", told)}
    assert sum(counts.values()) == 8
    assert counts["first"] == 1
    assert re.search(r"p50 \d+ ms, p99 \d+ ms", told)


def test_live_video_outlives_a_service_that_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first service says goodbye in mid-stream; the next one listens at the same address."""
    _clip(tmp_path, 12)
    main = runpy.run_path(str(ROOT / "client" / "examples" / "live.py"))["main"]
    with serving() as first:
        port = int(first.grpc.rpartition(":")[2])
        playing = threading.Thread(target=main, args=(str(tmp_path), first.grpc, "2"))
        playing.start()
        while not first.metrics.registry.get_sample_value("dmvfn_stream_frames_total", {"outcome": "predicted"}):
            playing.join(0.05)
            assert playing.is_alive()
    with serving(Settings(grpc_port=port)):
        playing.join(PATIENCE)
    told = capsys.readouterr().out
    assert int(re.findall(r"first (\d+)", told)[0]) == 2
    assert "draining 1" in told
