"""LPIPS against its formula written out, and its weights by path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.evaluation.lpips import COMPARED, LPIPS


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    torch.manual_seed(0)
    network = LPIPS()
    for line in network.lines:
        line.uniform_(0, 1)
    return network


def test_the_distance_is_the_weighted_difference_of_unit_features(lpips: LPIPS) -> None:
    a, b = torch.rand(2, 1, 3, 64, 64)
    expected = 0.0
    for (index, _), line in zip(COMPARED.items(), lpips.lines, strict=True):
        features = []
        for frame in (a, b):
            found = lpips.features[: index + 1]((frame * 2 - 1 - lpips.shift) / lpips.scale)[0]
            features.append(found / (found.square().sum(0).sqrt() + 1e-10))
        apart = (features[0] - features[1]).square()
        expected += float((apart * line[:, None, None]).sum(0).mean())
    assert float(lpips(a, b)) == pytest.approx(expected, rel=1e-4)
    assert float(lpips(a, a)) == 0


def test_weights_come_in_the_names_of_torchvision_and_lpips(lpips: LPIPS, tmp_path: Path) -> None:
    backbone = {f"features.{name}": value for name, value in lpips.features.state_dict().items()}
    lines = {f"lin{i}.model.1.weight": line.detach().view(1, -1, 1, 1) for i, line in enumerate(lpips.lines)}
    torch.save(backbone, tmp_path / "alexnet.pth")
    torch.save(lines, tmp_path / "alex.pth")
    loaded = LPIPS.load(tmp_path / "alexnet.pth", tmp_path / "alex.pth")
    a, b = torch.rand(2, 2, 3, 64, 64)
    assert torch.equal(loaded(a, b), lpips(a, b))
    with pytest.raises(ValueError, match="missing"):
        LPIPS.load(tmp_path / "alex.pth", tmp_path / "alexnet.pth")
