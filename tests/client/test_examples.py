from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.client.serving import Serving
from tests.e2e.process import ROOT, SAMPLES


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
