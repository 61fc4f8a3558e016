"""`python -m model moments`: both ways side by side, and nothing where there are no clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import __main__ as entry
from model import checkpoint
from model.checkpoint import Metadata
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.evaluation import moments
from tests.unit.model.training import pictures


def test_the_tables_have_both_ways_and_a_steady_slide_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    checkpoint.save(DMVFN(ModelConfig.tiny()), tmp_path / "w.safetensors", Metadata(version="tiny"))
    pictures.write_images(tmp_path / "clips" / "one", pictures.sliding(7, 48, 64))
    data = ["moments", str(tmp_path / "clips"), "--weights", str(tmp_path / "w.safetensors")]
    assert entry.main([*data, "--per-clip", "1", "--tries", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")] == [
        *("method", "---", "repeat", "dmvfn, steps", "dmvfn, t", "flow, steps", "flow, t"),
        *("method", "---", "dmvfn", "flow"),
    ]
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines if "|" in line}
    assert float(rows["flow, t"][0]) > float(rows["repeat"][0]) + 3, "half-way between two frames"
    assert rows["flow, t"][1] == rows["flow, steps"][1], "the next frame is the moment 1"
    assert float(rows["flow, t"][5]) > float(rows["repeat"][5])


def test_a_folder_without_clips_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["moments", str(tmp_path)]) == 2
    assert "error" in capsys.readouterr().err


def test_scores_are_means_over_clips_of_their_windows() -> None:
    scores = moments.MomentScores(["a", "a", "b"], {("repeat", 1): [10.0, 20.0, 30.0]})
    assert scores.mean("repeat", 1) == 22.5
