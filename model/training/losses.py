"""What training minimises: the Laplacian pyramid of DMVFN, plain differences, and supervision of the flow.

Every function takes tensors of one batch and returns a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Weight of block i's frame relative to that of block i + 1 (DMVFN's training code).
DISCOUNT = 0.8
PYRAMID_LEVELS = 5


def laplacian(prediction: Tensor, target: Tensor, levels: int = PYRAMID_LEVELS) -> Tensor:
    """Sum over `levels` bands of the mean absolute difference of the bands of two frames BxCxHxW.

    Sides must be multiples of 2**levels and at least 2**(levels + 1); ValueError otherwise. The low-pass rest
    is left out, as in the published loss.
    """
    _check_sides(prediction, levels)
    # Bands are linear in the frame, so those of the difference are the differences of the bands: half the work.
    rest = prediction - target
    total = rest.new_zeros(())
    for _ in range(levels):
        smaller = _blur(rest)[:, :, ::2, ::2]
        total = total + (rest - _expand(smaller)).abs().mean()
        rest = smaller
    return total


def discounted(losses: Sequence[Tensor]) -> Tensor:
    """Sum one loss per output, weighted: the last one counts 1, each earlier one DISCOUNT times the next."""
    total = losses[0] * 0.0
    for distance, loss in enumerate(reversed(losses)):
        total = total + DISCOUNT**distance * loss
    return total


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean smooth absolute difference: quadratic below `epsilon`, so that its gradient fades at the optimum."""
    return ((prediction - target).square() + epsilon * epsilon).sqrt().mean() - epsilon


def log_mse(prediction: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Mean over samples of ln(mean squared error + floor): minimises what a mean of PSNRs measures.

    A sample whose error is below `floor` (40 dB) hardly counts any more: still pictures would crowd out the rest.
    """
    return ((prediction - target).square().mean((1, 2, 3)) + floor).log().mean()


def flow_distance(flow: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference in pixels of two flows Bx4xHxW, counted by weight Bx2xHxW (previous, current)."""
    weights = weight.repeat_interleave(2, 1)
    return ((flow - known).abs() * weights).sum() / weights.sum().clamp(min=1.0)


def _check_sides(frames: Tensor, levels: int) -> None:
    if any(side % 2**levels or side < 2 ** (levels + 1) for side in frames.shape[-2:]):
        raise ValueError(f"sides must be multiples of {2**levels}, at least {2 ** (levels + 1)}: {tuple(frames.shape)}")


def _kernel(like: Tensor) -> Tensor:
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=like.device, dtype=like.dtype)
    return torch.outer(row, row)[None, None] / 256.0


def _blur(frames: Tensor, gain: float = 1.0) -> Tensor:
    channels = frames.shape[1]
    kernel = (_kernel(frames) * gain).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(frames, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def _expand(frames: Tensor) -> Tensor:
    batch, channels, height, width = frames.shape
    wide = frames.new_zeros(batch, channels, 2 * height, 2 * width)
    wide[:, :, ::2, ::2] = frames
    return _blur(wide, gain=4.0)
