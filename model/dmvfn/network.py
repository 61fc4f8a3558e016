"""The published network, trainable: parameters carry the names of the published state dict.

Inference with per-sample routes is in `model.inference.predict`; this file knows no route policy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.dmvfn import conv_mean, routing
from model.dmvfn.block import VoxelFlowBlock
from model.dmvfn.config import ModelConfig
from model.dmvfn.warp import blend, warp


class TrainingOutput(NamedTuple):
    """What the training forward returns; all tensors of one batch."""

    frames: list[Tensor]  #: one Bx3xHxW per block, the last one is the prediction
    flow: Tensor  #: Bx4xHxW, pixels: x, y of the previous frame, x, y of the current
    mask: Tensor  #: Bx1xHxW logits; sigmoid is the previous frame's weight
    probabilities: Tensor  #: Bxn, before any draw


class DMVFN(nn.Module):
    """Dynamic Multi-scale Voxel Flow Network (Hu et al., CVPR 2023)."""

    #: What the weights say about themselves; `model.checkpoint` sets and reads it.
    metadata: object = None

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig.paper()
        for i, (scale, width) in enumerate(zip(self.config.scales, self.config.widths, strict=True)):
            self.add_module(f"block{i}", VoxelFlowBlock(scale, width, self.config.spatial_width))
        channels = self.config.routing_width
        self.routing = nn.Sequential(nn.Conv2d(6, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1))
        self.l1 = nn.Linear(channels, self.config.blocks)

    def block(self, index: int) -> VoxelFlowBlock:
        """Return the voxel-flow block `index`, 0-based."""
        return self.get_submodule(f"block{index}")  # type: ignore[return-value]  # add_module above put it there

    def routing_features(self, previous: Tensor, current: Tensor) -> Tensor:
        """Average the routing convolutions' output over the frame: Bx3xHxW twice -> Bx32.

        The second convolution is never run: its mean follows from sums of its input (`model.dmvfn.conv_mean`).
        """
        maps = self.routing[:2](torch.cat((previous, current), 1))
        weights = self.get_parameter
        return conv_mean.mean_of_convolution(maps, weights("routing.2.weight"), weights("routing.2.bias"))

    def routing_logits(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return the logits Bxn that `routing_probabilities` normalises."""
        logits: Tensor = self.l1(self.routing_features(previous, current))
        return logits

    def routing_probabilities(self, previous: Tensor, current: Tensor) -> Tensor:
        """Estimate the probability of each block: frames Bx3xHxW in 0..1 -> Bxn in 0..1."""
        return routing.normalise(self.routing_logits(previous, current), self.config.expected_blocks)

    def forward(self, previous: Tensor, current: Tensor, routes: Tensor | None = None) -> TrainingOutput:
        """Run every block and gate its increment by the sample's route, as the published training forward does.

        previous, current: Bx3xHxW in 0..1, sides multiples of 16. routes: Bxn of 0/1, or None to draw them
        (Bernoulli). Gradients reach the routing module straight through the gates. Frame i < n-1 shows the
        state plus block i's increment ungated, the last one the gated state.
        """
        probabilities = self.routing_probabilities(previous, current)
        if routes is None:
            routes = torch.bernoulli(probabilities.detach())
        gates = routing.straight_through(probabilities, routes)[:, :, None, None, None]
        flow = previous.new_zeros(previous.shape[0], 4, *previous.shape[2:])
        mask = flow[:, :1]
        warped_previous, warped_current = previous, current
        frames: list[Tensor] = []
        for i in range(self.config.blocks):
            flow_step, mask_step = self.block(i)(
                torch.cat((previous, current, warped_previous, warped_current, mask), 1), flow
            )
            if i < self.config.blocks - 1:
                ahead = flow + flow_step
                frames.append(blend(warp(previous, ahead[:, :2]), warp(current, ahead[:, 2:]), mask + mask_step))
            flow = flow + flow_step * gates[:, i]
            mask = mask + mask_step * gates[:, i]
            warped_previous, warped_current = warp(previous, flow[:, :2]), warp(current, flow[:, 2:])
        frames.append(blend(warped_previous, warped_current, mask))
        return TrainingOutput(frames, flow, mask, probabilities)
