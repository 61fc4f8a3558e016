"""PSNR, SSIM and MS-SSIM against independent implementations on the same arrays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import pytorch_msssim
import torch

from model.evaluation import scores
from tests.unit.model.training import pictures


def _pair(height: int, width: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.from_numpy(pictures.sliding(2, height, width)).permute(0, 3, 1, 2).float() / 255
    rng = torch.Generator().manual_seed(0)
    return (target + noise * torch.randn(target.shape, generator=rng)).clamp(0, 1), target


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_psnr_equals_that_of_opencv(noise: float) -> None:
    prediction, target = _pair(48, 64, noise)
    levels = [(frames * 255).round().byte() for frames in (prediction, target)]
    ours = scores.psnr(levels[0].float() / 255, levels[1].float() / 255)
    a, b = (np.ascontiguousarray(frames.numpy()) for frames in levels)
    theirs = [cv2.PSNR(a[i], b[i]) for i in range(2)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-4)


def test_equal_frames_score_best() -> None:
    frame = torch.rand(1, 3, 176, 176)
    assert float(scores.psnr(frame, frame)) == 100
    assert float(scores.ssim(frame, frame)) == pytest.approx(1, abs=1e-6)
    assert float(scores.ms_ssim(frame, frame)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_equals_that_of_pytorch_msssim(noise: float) -> None:
    prediction, target = _pair(64, 80, noise)
    theirs = pytorch_msssim.ssim(prediction, target, data_range=1.0, size_average=False)
    torch.testing.assert_close(scores.ssim(prediction, target), theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(176, 192), (177, 203)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ms_ssim_equals_that_of_pytorch_msssim(height: int, width: int, noise: float) -> None:
    prediction, target = _pair(height, width, noise)
    theirs = pytorch_msssim.ms_ssim(prediction, target, data_range=1.0, size_average=False)
    torch.testing.assert_close(scores.ms_ssim(prediction, target), theirs, atol=5e-6, rtol=0)


def test_ms_ssim_refuses_frames_its_coarsest_window_does_not_fit() -> None:
    small = torch.zeros(1, 3, 160, 200)
    with pytest.raises(ValueError, match="161"):
        scores.ms_ssim(small, small)


def test_sharpness_falls_with_blur_and_is_no_number_on_a_flat_target() -> None:
    frames = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(frames, 3, 1, 1)
    assert torch.allclose(scores.sharpness(frames, frames), torch.ones(2))
    assert float(scores.sharpness(blurred, frames).max()) < 0.3
    assert torch.isnan(scores.sharpness(frames, torch.zeros_like(frames))).all()
