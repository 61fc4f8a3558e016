"""`python -m model evaluate` from clips to every form of the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from model import __main__ as entry
from model import checkpoint
from model.checkpoint import Metadata
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.evaluation import mixtures
from model.evaluation.baselines import BASELINES
from model.mixing import weights as heads
from tests.unit.model.training import pictures


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two clips, one of them too small for MS-SSIM."""
    root = tmp_path_factory.mktemp("evaluation")
    torch.manual_seed(0)
    checkpoint.save(DMVFN(ModelConfig.tiny()), root / "w.safetensors", Metadata(version="tiny<1>"))
    pictures.write_images(root / "clips" / "large", pictures.sliding(6, 176, 192))
    pictures.write_images(root / "clips" / "small", pictures.sliding(5, 48, 64))
    data = ["evaluate", str(root / "clips"), "--weights", str(root / "w.safetensors"), "--out", str(root / "out")]
    assert entry.main([*data, "--per-clip", "1", "--steps", "3", "--device", "cpu"]) == 0
    return root / "out"


def test_the_json_holds_every_method_at_every_horizon(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    rows = {(row["method"], row["mean_over_steps_1_to"]): row for row in found["methods"]}
    firsts = {row["method"]: row for row in found["budgets_on_first_windows"]}
    mixed = mixtures.methods(DMVFN(ModelConfig.tiny()), heads.DEFAULT, heads.LIVE, heads.SHARP)
    assert {"mean of three", "flow", "live"} <= set(mixed)
    both = [*BASELINES, *mixed, "full", "auto"]
    assert set(rows) == {(m, k) for m in both for k in (1, 3)}
    assert set(firsts) == {*both, *(f"budget {k}" for k in range(1, 10))}
    assert rows[("full", 1)]["blocks"] == 9
    assert firsts["budget 9"]["psnr"] == firsts["full"]["psnr"]
    assert rows[("repeat", 1)]["psnr"] > rows[("repeat", 3)]["psnr"] > 10
    assert rows[("auto", 1)]["lpips"] is None
    assert rows[("auto", 1)]["ms_ssim"] is not None
    assert found["windows"] == 2


def test_the_markdown_says_how_to_do_it_again(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "`python -m model evaluate clips --protocol clips --per-clip 1 --steps 3`" in text
    assert "| auto | t+3 |" in text
    assert "| large |" in text
    assert "(quality.png)" in text
    assert "(time.png)" in text
    assert "| dis mean | " in text


def test_the_page_escapes_names_and_embeds_pictures(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert "tiny&lt;1&gt;" in page
    assert "tiny<1>" not in page
    assert page.count("data:image/jpeg;base64,") == 2 * 12


def test_scores_for_the_checkpoint(report: Path) -> None:
    scores = json.loads((report / "scores.json").read_text())
    assert {"psnr_t1", "psnr_t1_repeat", "psnr_t1_dis", "ms_ssim_t1"} <= set(scores)
    assert all(math.isfinite(value) for value in scores.values())


def test_the_plots_are_pictures(report: Path) -> None:
    for name in ("quality.png", "time.png"):
        assert (report / name).read_bytes().startswith(b"\x89PNG")


def test_every_method_is_timed_and_scored_for_sharpness(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    assert {row["method"] for row in found["methods"]} - set(found["milliseconds"]) == {"full"}
    assert all(value > 0 for value in found["milliseconds"].values())
    rows = {(row["method"], row["mean_over_steps_1_to"]): row for row in found["methods"]}
    assert rows[("repeat", 1)]["sharpness"] == pytest.approx(1, abs=0.1)


def test_an_empty_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["evaluate", str(tmp_path)]) == 2
    assert "no clip" in capsys.readouterr().err


def test_with_the_times_of_an_earlier_report_an_evaluation_is_twice_the_same(report: Path, tmp_path: Path) -> None:
    root = report.parent
    for name in ("once", "twice"):
        data = ["evaluate", str(root / "clips"), "--weights", str(root / "w.safetensors"), "--limit", "1"]
        data += ["--per-clip", "1", "--steps", "1", "--device", "cpu", "--times", str(report / "report.json")]
        assert entry.main([*data, "--out", str(tmp_path / name)]) == 0
    once, twice = (sorted((tmp_path / name).iterdir()) for name in ("once", "twice"))
    assert [path.name for path in once] == [path.name for path in twice]
    assert "report.md" in [path.name for path in once]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]
    times = [json.loads((folder / "report.json").read_text())["milliseconds"] for folder in (report, tmp_path / "once")]
    assert times[0] == times[1] != {}


def test_times_that_are_no_report_are_refused(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.json").write_text("{}")
    data = ["evaluate", str(report.parent / "clips"), "--weights", str(report.parent / "w.safetensors"), "--limit", "1"]
    data += ["--device", "cpu", "--times", str(tmp_path / "no.json"), "--per-clip", "1", "--steps", "1"]
    assert entry.main([*data, "--out", str(tmp_path / "out")]) == 2
    assert "milliseconds" in capsys.readouterr().err
