"""The network's forward pass along one fixed route for the whole batch: what the full-route phase trains.

Equal to the published training forward with those gates, without the warps that only closed gates need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.network import DMVFN
from model.warp import blend, warp


class Step(NamedTuple):
    """The state after one block."""

    frame: Tensor  #: Bx3xHxW, the prediction so far
    flow: Tensor  #: Bx4xHxW pixels: x, y of the older frame, x, y of the newer
    mask: Tensor  #: Bx1xHxW logits of the older frame's weight


def run(network: DMVFN, older: Tensor, newer: Tensor, blocks: Sequence[int]) -> list[Step]:
    """One Step for each of `blocks`, run in that order on frames Bx3xHxW (0..1, sides multiples of 16)."""
    flow = older.new_zeros(older.shape[0], 4, *older.shape[2:])
    mask = flow[:, :1]
    warped_older, warped_newer = older, newer
    steps: list[Step] = []
    for index in blocks:
        seen = torch.cat((older, newer, warped_older, warped_newer, mask), 1)
        flow_step, mask_step = network.block(index)(seen.contiguous(memory_format=torch.channels_last), flow)
        # Coordinates stay in float32 under mixed precision: half a pixel at 1000 is beyond bfloat16.
        flow, mask = flow + flow_step.float(), mask + mask_step.float()
        warped_older, warped_newer = warp(older, flow[:, :2]), warp(newer, flow[:, 2:])
        steps.append(Step(blend(warped_older, warped_newer, mask), flow, mask))
    return steps
