"""The mean over a frame of a zero-padded 3x3 convolution, from sums of its input alone: the convolution never runs.

Exact in real arithmetic, since nothing nonlinear stands between the two: each of the nine taps meets the whole map but
for the border row or column that the padding hides from it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_convolution(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `conv2d(maps, weight, bias, padding=1).mean((2, 3))`, BxO, of BxCxHxW, OxCx3x3 and O."""
    # In double: the sum over half a million values loses what the routes' probabilities are decided by.
    rows = torch.stack((maps.sum(3, dtype=torch.float64), maps[..., 0].double(), maps[..., -1].double()), 1)
    return mean_of_rows(rows.permute(0, 3, 1, 2), weight, bias, maps.shape[3]).to(weight.dtype)


def mean_of_rows(rows: Tensor, weight: Tensor, bias: Tensor, width: int) -> Tensor:
    """Compute the same BxO, in the type of `rows`, from BxHx3xC: each row's sum, first value and last value."""
    height = rows.shape[1]
    tap_sums = _seen_by_taps(rows)
    return bias.to(rows) + torch.einsum("ocyx,byxc->bo", weight.to(rows), tap_sums) / (height * width)


def _seen_by_taps(rows: Tensor) -> Tensor:
    """Sum what each tap sees: BxHx3xC -> Bx3x3xC.

    A tap that looks up never sees the last row, one that looks left never the last column, and so on.
    """
    total, top, bottom = rows.sum(1), rows[:, 0], rows[:, -1]
    looks = [total - bottom, total, total - top]
    return torch.stack([torch.stack((row[:, 0] - row[:, 2], row[:, 0], row[:, 0] - row[:, 1]), 1) for row in looks], 1)
