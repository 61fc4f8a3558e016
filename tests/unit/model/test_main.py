"""`python -m model`: the verbs that need no data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import __main__ as entry
from model import checkpoint
from model.checkpoint import Metadata
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN


def test_flops_of_a_route(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["flops", "512", "1024", "--route", "100000000"]) == 0
    told = capsys.readouterr().out
    assert "block 0  scale 1/4     2.609 G  runs" in told
    assert "block 8  scale 1/1     3.017 G  -" in told


def test_a_route_of_the_wrong_length_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["flops", "64", "64", "--route", "101"]) == 2
    assert "9 entries" in capsys.readouterr().err


def test_convert_halves_and_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    source, target, scores = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "scores.json"
    checkpoint.save(network, source, Metadata(version="before"))
    scores.write_text('{"psnr_t1": 27.5}')
    told = ["--half", "--version", "after", "--training-data", "mine", "--scores", str(scores)]
    assert entry.main(["convert", str(source), str(target), *told]) == 0
    assert "after, RGB" in capsys.readouterr().out
    about = checkpoint.metadata(checkpoint.load(target))
    assert (about.version, about.training_data, about.scores) == ("after", "mine", {"psnr_t1": 27.5})
    assert target.stat().st_size < 0.7 * source.stat().st_size


def test_convert_names_a_file_that_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pkl").write_bytes(b"no pickle")
    assert entry.main(["convert", str(tmp_path / "a.pkl"), str(tmp_path / "b.safetensors")]) == 2
    assert "a.pkl" in capsys.readouterr().err


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        entry.main(["dance"])
    assert stopped.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
