"""PSNR, SSIM and multi-scale SSIM of two frames.

SSIM after Wang et al. 2004 (11x11 Gaussian window, sigma 1.5, no padding), MS-SSIM after Wang et al. 2003 with its
five weights: the definitions of the `pytorch_msssim` package that the published tables were made with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
#: Exponents of the five scales, finest first.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: MS-SSIM needs the window to fit at the coarsest of five scales.
SHORTEST_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio in dB of frames BxCxHxW in 0..1, one per sample; at most 100."""
    error = (prediction - target).double().square().mean((1, 2, 3))
    return (-10 * error.clamp(min=1e-10).log10()).float()


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the structural similarity of frames BxCxHxW in 0..1, one per sample: mean over pixels and channels."""
    return _ssim_and_contrast(prediction, target)[0].mean(1)


def ms_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute MS-SSIM of frames BxCxHxW in 0..1, one per sample. ValueError below SHORTEST_SIDE pixels a side."""
    return similarities(prediction, target)[1]


def similarities(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute SSIM and MS-SSIM together, for little more than the latter; sizes as `ms_ssim`."""
    if min(prediction.shape[-2:]) < SHORTEST_SIDE:
        raise ValueError(f"MS-SSIM needs at least {SHORTEST_SIDE} pixels a side, not {tuple(prediction.shape[-2:])}")
    product = prediction.new_ones(prediction.shape[:2])
    single: Tensor | None = None
    for scale, weight in enumerate(WEIGHTS):
        whole, contrast = _ssim_and_contrast(prediction, target)
        single = whole if single is None else single
        last = scale == len(WEIGHTS) - 1
        # A negative structure term has no real power; the original clips it, too.
        product = product * (whole if last else contrast).clamp(min=0) ** weight
        if not last:
            # An odd side is padded by a zero row on both ends, as pytorch_msssim does.
            padding = [side % 2 for side in prediction.shape[-2:]]
            prediction = F.avg_pool2d(prediction, 2, padding=padding)
            target = F.avg_pool2d(target, 2, padding=padding)
    assert single is not None
    return single.mean(1), product.mean(1)


def sharpness(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the Laplacian's energy of frames BxCxHxW over the target's, one per sample; nan where that is flat."""
    energies = []
    for frames in (prediction, target):
        line = frames.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        edges = F.conv2d(frames, line.expand(frames.shape[1], 1, 3, 3), groups=frames.shape[1])
        energies.append(edges.square().mean((1, 2, 3)))
    return energies[0] / torch.where(energies[1] > 0, energies[1], torch.nan)


def _ssim_and_contrast(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute SSIM and its contrast-structure part, BxC each."""
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a * mean_a, _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    contrast = (2 * covariance + _C2) / (var_a + var_b + _C2)
    whole = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1) * contrast
    return whole.mean((2, 3)), contrast.mean((2, 3))


def _blur(frames: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, device=frames.device, dtype=frames.dtype) - WINDOW // 2
    line = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    line = (line / line.sum()).expand(frames.shape[1], 1, 1, WINDOW)
    across = F.conv2d(frames, line, groups=frames.shape[1])
    return F.conv2d(across, line.transpose(2, 3), groups=frames.shape[1])
