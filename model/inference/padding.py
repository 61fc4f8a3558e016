"""Pads frames to the network's stride, and undoes it. Pure arithmetic plus one replicate pad."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.dmvfn.config import STRIDE


def padded(length: int, stride: int = STRIDE) -> int:
    """Return the smallest multiple of `stride` that is at least `length` (pixels, at least one stride)."""
    return max(stride, -(-length // stride) * stride)


def pad(frames: Tensor, stride: int = STRIDE) -> Tensor:
    """Repeat the last row and column of BxCxHxW until both sides are multiples of `stride`."""
    height, width = frames.shape[-2:]
    bottom, right = padded(height, stride) - height, padded(width, stride) - width
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames


def crop(maps: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad`: the top-left height x width of ...xHxW, a view."""
    return maps[..., :height, :width]
