"""uint8 pictures <-> the network's tensors, on whatever device they are. Knows colours and ranges, no sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def tensors(pictures: Tensor, *, bgr: bool = False) -> Tensor:
    """Convert BxHxWx3 uint8 RGB to Bx3xHxW float32 in 0..1, red first or (`bgr`) blue first."""
    if bgr:
        pictures = pictures.flip(3)
    # Contiguous as the published network had them: convolutions on strided input round differently.
    return pictures.permute(0, 3, 1, 2).contiguous().float().div_(255)


def picture(frame: Tensor, *, bgr: bool = False) -> Tensor:
    """Convert (B x) 3xHxW in 0..1 to (B x) HxWx3 uint8 RGB, rounded, contiguous."""
    # A copy in the answer's own layout first: every later step then runs over neighbouring values, in place.
    values = frame.movedim(-3, -1).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    pixels = values.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.flip(-1) if bgr else pixels
