"""The perceptual term: layers and weights of the published sum, gradients to the prediction only, weights by path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training.vgg import COMPARED, SCALE, VGG


@pytest.fixture(scope="module")
def vgg() -> VGG:
    torch.manual_seed(0)
    return VGG()


def test_equal_frames_are_no_distance_apart(vgg: VGG) -> None:
    frame = torch.rand(1, 3, 32, 32)
    assert float(vgg(frame, frame)) == 0


def test_the_sum_is_that_of_the_compared_layers(vgg: VGG) -> None:
    a, b = torch.rand(2, 1, 3, 32, 32)
    expected = 0.0
    for index, weight in COMPARED.items():
        features = [vgg.features[: index + 1]((frame - vgg.mean) / vgg.deviation) for frame in (a, b)]
        expected += weight * float((features[0] - features[1]).abs().mean())
    assert float(vgg(a, b)) == pytest.approx(SCALE * expected, rel=1e-5)


def test_gradient_of_the_perceptual_term(vgg: VGG) -> None:
    exact = VGG().double()
    exact.load_state_dict(vgg.state_dict())
    prediction, target = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64)
    prediction.requires_grad_()
    target.requires_grad_()
    exact(prediction, target).backward()
    assert target.grad is None
    assert prediction.grad is not None
    direction = torch.randn_like(prediction)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (float(exact(prediction + sign * step * direction, target)) for sign in (1, -1))
    assert float((prediction.grad * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


def test_weights_come_from_a_path_and_a_gap_is_named(vgg: VGG, tmp_path: Path) -> None:
    state = {**vgg.state_dict(), "classifier.0.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "vgg.pth")
    loaded = VGG.load(tmp_path / "vgg.pth")
    name = "features.0.weight"
    assert torch.equal(loaded.state_dict()[name], vgg.state_dict()[name])
    del state["features.28.bias"]
    torch.save(state, tmp_path / "gap.pth")
    with pytest.raises(ValueError, match=r"features\.28\.bias is missing"):
        VGG.load(tmp_path / "gap.pth")
