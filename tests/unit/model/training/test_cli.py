"""`python -m model train`: trains, continues, and says what is wrong with a run file."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import __main__ as entry
from model import checkpoint
from tests.unit.model.training import pictures

RUN = """
name = "two"
network = "tiny"
validation = "clips"

[[sources]]
path = "clips"

[[phases]]
name = "a"
steps = 2
size = 64
batch = 2
blocks = [0, 3]
synthetic = 0.5
shift = 4.0
warm_up = 1
"""


def _train(tmp_path: Path, *more: str) -> int:
    (tmp_path / "run.toml").write_text(RUN)
    places = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    return entry.main(["train", str(tmp_path / "run.toml"), "--device", "cpu", *places, *more])


def test_a_run_trains_from_clips_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures.write_video(tmp_path / "clips" / "a.mkv", pictures.sliding(8))
    assert _train(tmp_path, "--log-every", "1", "--small-files") == 0
    told = capsys.readouterr().out
    assert "decoded 1 of 1 clips" in told
    assert "validation" in told
    scores = checkpoint.metadata(checkpoint.load(tmp_path / "out" / "dmvfn.safetensors")).scores
    assert scores["psnr_t1_repeat"] > 10
    assert _train(tmp_path) == 0
    assert "continuing at step 2 of 2" in capsys.readouterr().out


def test_a_run_file_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\nwheels = 4')
    assert entry.main(["train", str(tmp_path / "bad.toml")]) == 2
    assert "unknown key wheels" in capsys.readouterr().err


def test_missing_clips_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clips").mkdir()
    assert _train(tmp_path) == 2
    assert "no clip" in capsys.readouterr().err


def test_a_committed_run_is_found_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make train RUN=h100`, as README has it, in a folder without the run's clips: only they are missing."""
    assert entry.main(["train", "h100", "--data", str(tmp_path), "--device", "cpu"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert entry.main(["train", "h200", "--data", str(tmp_path), "--device", "cpu"]) == 2
    assert "h200" in capsys.readouterr().err
