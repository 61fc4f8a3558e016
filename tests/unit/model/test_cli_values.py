"""What `python -m model` refuses: in one line on standard error that names the argument or the file, with status 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model import __main__ as entry
from model import checkpoint
from model.checkpoint import Metadata
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN

SAMPLES = Path(__file__).parents[3] / "samples"


def _refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a verb that must refuse; return the last line of what it says."""
    try:
        status = entry.main(arguments)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    return printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("evaluate samples --steps 0", "--steps"),
        ("evaluate samples --per-clip -1", "--per-clip"),
        ("evaluate samples --limit 0", "--limit"),
        ("evaluate samples --threads 0", "--threads"),
        ("evaluate samples --device cuda:99", "--device"),
        ("evaluate samples --device potato", "--device"),
        ("evaluate samples --device meta", "--device"),
        ("streams samples --every 0", "--every"),
        ("streams samples --steps nan", "--steps"),
        ("moments samples --tries 0", "--tries"),
        ("moments samples --limit -2", "--limit"),
        ("flops 0 64", "height"),
        ("flops 64 -16", "width"),
        ("train quick --steps 0", "--steps"),
        ("train quick --batch 0", "--batch"),
        ("train quick --seconds nan", "--seconds"),
        ("train quick --seconds inf", "--seconds"),
        ("train quick --save-seconds 0", "--save-seconds"),
        ("train quick --log-every 0", "--log-every"),
        ("train quick --device potato", "--device"),
        ("train-head head --seconds -1", "--seconds"),
        ("train-head head --threads 0", "--threads"),
        ("export x.onnx --weights none --height -16", "--height"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(
    arguments: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"argument {name}:" in _refusal(arguments.split(), capsys)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A file that is neither weights nor JSON."""
    path = tmp_path / "wrong"
    path.write_text("hello")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        "flops 64 64 --weights {wrong}",
        "export {wrong}.onnx --weights {wrong}",
        "moments {samples} --weights {wrong}",
        "moments {samples} --head {wrong}",
        "streams {samples} --head {wrong}",
        "evaluate {samples} --weights {wrong}",
        "evaluate {samples} --times {wrong}",
        "evaluate {samples} --check {wrong}",
        "evaluate {samples} --check {other}",
        "evaluate {samples} --times {other}",
        "convert {wrong} {wrong}.safetensors",
        "train {wrong}",
        "train-head {wrong}",
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_name(
    arguments: str, wrong: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = wrong.with_name("other.json")
    other.write_text('{"windows": 3}')
    words = [word.format(wrong=wrong, other=other, samples=SAMPLES) for word in arguments.split()]
    refusal = _refusal(words, capsys)
    assert refusal.startswith(f"error: {other if '{other}' in arguments else wrong}: ")
    assert "101" not in refusal  # as torch calls a file that is no pickle


def test_half_of_what_lpips_needs_is_refused(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = _refusal(["evaluate", str(SAMPLES), "--lpips-lines", str(wrong)], capsys)
    assert "--lpips-alexnet" in refusal


def test_what_convert_could_not_read_again_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, scores = tmp_path / "a.safetensors", tmp_path / "scores.json"
    checkpoint.save(DMVFN(ModelConfig.tiny()), source, Metadata())
    scores.write_text(json.dumps([27.5]))
    assert ".safetensors" in _refusal(["convert", str(source), str(tmp_path / "b.pkl")], capsys)
    target = tmp_path / "b.safetensors"
    assert _refusal(["convert", str(source), str(target), "--scores", str(scores)], capsys).startswith(
        f"error: {scores}:"
    )
    assert not target.exists()


def test_export_into_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "none" / "x.onnx"
    assert str(target.parent) in _refusal(["export", str(target), "--weights", str(checkpoint.DEFAULT)], capsys)
