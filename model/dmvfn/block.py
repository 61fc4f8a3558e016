"""One multi-scale voxel-flow block: estimates an increment of flow and mask at its own scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Older and current frame, both warped, and the mask: what a block sees besides the flow.
SEEN_CHANNELS = 13
FLOW_CHANNELS = 4


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


class VoxelFlowBlock(nn.Module):
    """The MVFB of DMVFN. Parameter names are those of the published state dict."""

    def __init__(self, scale: int, width: int, spatial_width: int) -> None:
        super().__init__()
        inputs = SEEN_CHANNELS + FLOW_CHANNELS
        self.scale = scale
        self.conv0 = nn.Sequential(_conv(inputs, width // 2, 2), _conv(width // 2, width, 2))
        self.convblock = nn.Sequential(_conv(width, width), _conv(width, width), _conv(width, width))
        self.conv_sq = _conv(width, width // 4)
        self.conv1 = nn.Sequential(_conv(inputs, spatial_width, 2))
        self.convblock1 = nn.Sequential(_conv(spatial_width, spatial_width))
        self.lastconv = nn.ConvTranspose2d(width // 4 + spatial_width, 5, 4, 2, 1)

    def forward(self, inputs: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate increments Bx4xHxW, Bx1xHxW from inputs Bx13xHxW (0..1, mask: logits), flow Bx4xHxW in pixels."""
        full = torch.cat((inputs, flow), 1)
        small = full
        if self.scale != 1:
            factor = 1.0 / self.scale
            small = torch.cat((_resize(inputs, factor), _resize(flow, factor) * factor), 1)
        entry = self.conv0(small)
        motion = self.conv_sq(self.convblock(entry) + entry)
        motion = _resize(motion, 2.0 * self.scale)
        spatial = self.convblock1(self.conv1(full))
        increment = self.lastconv(torch.cat((motion, spatial), 1))
        return increment[:, :FLOW_CHANNELS], increment[:, FLOW_CHANNELS:]


def _resize(maps: Tensor, factor: float) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
