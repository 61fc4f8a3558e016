"""The exported full route answers what we answer; sizes and endings it cannot write are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import checkpoint, export
from model.__main__ import main
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.inference import predict as inference


@pytest.fixture
def three_blocks() -> DMVFN:
    """One block of each scale: exporters take long over nine."""
    torch.manual_seed(5)
    return DMVFN(ModelConfig(scales=(4, 2, 1), widths=(8, 8, 8), spatial_width=4, routing_width=8)).eval()


def test_the_published_form_equals_our_full_route(tiny_network: DMVFN) -> None:
    previous = torch.rand(1, 3, 32, 48)
    current = previous.roll((1, 2), (2, 3))
    with torch.no_grad():
        frame, probabilities = export.FullRoute(tiny_network)(previous, current)
    answer = inference.predict(tiny_network, previous, current, torch.ones(1, 9, dtype=torch.bool))
    torch.testing.assert_close(answer.frame, frame, atol=2e-5, rtol=0)
    torch.testing.assert_close(
        inference.probabilities(tiny_network, previous, current), probabilities, atol=5e-6, rtol=0
    )


def test_the_verb_writes_an_equal_program_by_torch_export(
    three_blocks: DMVFN, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, path = tmp_path / "tiny.safetensors", tmp_path / "full.pt2"
    checkpoint.save(three_blocks, weights, checkpoint.Metadata())
    assert main(["export", str(path), "--weights", str(weights), "--height", "32", "--width", "48"]) == 0
    assert float(capsys.readouterr().out.split()[-1]) <= 2e-5, "the largest difference"
    assert path.stat().st_size > 0


def test_onnx_runtime_answers_the_same(three_blocks: DMVFN, tmp_path: Path) -> None:
    assert export.to_onnx(three_blocks, tmp_path / "full.onnx", 32, 48) <= 1e-4


def test_the_verb_refuses_what_it_cannot_write(
    three_blocks: DMVFN, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "tiny.safetensors"
    checkpoint.save(three_blocks, weights, checkpoint.Metadata())
    assert main(["export", str(tmp_path / "full.xml"), "--weights", str(weights)]) == 2
    assert main(["export", str(tmp_path / "a.pt2"), "--weights", str(weights), "--height", "30", "--width", "48"]) == 2
    assert "32x48" in capsys.readouterr().err
