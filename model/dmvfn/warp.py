"""Backward warping by a flow in pixels, and the blend of the two warped frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample image BxCxHxW at (x + flow_x, y + flow_y), border values outside.

    flow is Bx2xHxW in pixels (x, y), fp32. Bilinear; the sampling formula of DMVFN
    (grid_sample, padding_mode="border", align_corners=True).
    """
    height, width = image.shape[-2:]
    x = torch.linspace(-1.0, 1.0, width, device=flow.device, dtype=flow.dtype).view(1, 1, width)
    y = torch.linspace(-1.0, 1.0, height, device=flow.device, dtype=flow.dtype).view(1, height, 1)
    grid = torch.stack((x + flow[:, 0] / ((width - 1.0) / 2.0), y + flow[:, 1] / ((height - 1.0) / 2.0)), dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=True)


def blend(warped_previous: Tensor, warped_current: Tensor, mask: Tensor) -> Tensor:
    """Mix the warped frames Bx3xHxW; sigmoid of mask Bx1xHxW (logits) weighs the OLDER frame."""
    weight = torch.sigmoid(mask)
    return (warped_previous * weight + warped_current * (1 - weight)).clamp(0, 1)
