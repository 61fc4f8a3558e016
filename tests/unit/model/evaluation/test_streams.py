"""`python -m model streams`: pairs alone beside pairs that those before them taught; no clips are told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from model import __main__ as entry
from model.evaluation import streams
from model.mixing import weights
from tests.unit.model.training import pictures


def test_the_table_has_a_row_for_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures.write_images(tmp_path / "one", pictures.sliding(7, 48, 64))
    pictures.write_images(tmp_path / "two", pictures.sliding(7, 64, 48))
    live = str(weights.LIVE)
    assert entry.main(["streams", str(tmp_path), "--head", live, "--scale", "0.5", "--steps", "2", "--every", "2"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["t+1", "t+2"]
    assert all(row[3].endswith(" of 2") for row in rows)


@pytest.mark.parametrize("cut", [3, 4])
def test_a_cut_begins_a_stream_anew(cut: int) -> None:
    frames = pictures.sliding(6, 48, 64)
    cuts, pair = frozenset({cut}), 4
    scored = streams.measure([("one", frames, cuts)], weights.LIVE, 1.0, 1, every=pair).figures
    if cut == pair:
        assert scored == {}, "no pair across a cut is scored"
    else:
        ((figures,),) = scored[1].values()
        assert figures.alone == figures.taught, "nothing was seen of this scene before"


def test_a_single_clip_has_no_standard_error() -> None:
    scored = streams.measure([("one", pictures.sliding(6, 48, 64), frozenset())], weights.LIVE, 1.0, 1, every=1)
    gain, error = scored.gain(1)
    assert math.isfinite(gain)
    assert math.isnan(error)


def test_a_folder_without_clips_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["streams", str(tmp_path)]) == 2
    assert "error" in capsys.readouterr().err
