"""The network's forward pass along one fixed route for the whole batch: what the full-route phase trains.

Equal to the published training forward with those gates, without the warps that only closed gates need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.dmvfn.warp import blend, warp


class State(NamedTuple):
    """What a block sees of the blocks before it."""

    flow: Tensor  #: Bx4xHxW pixels: x, y of the previous frame, x, y of the current
    mask: Tensor  #: Bx1xHxW logits of the previous frame's weight
    warped_previous: Tensor  #: Bx3xHxW
    warped_current: Tensor  #: Bx3xHxW

    @property
    def frame(self) -> Tensor:
        """Return the prediction so far, Bx3xHxW."""
        return blend(self.warped_previous, self.warped_current, self.mask)


def start(previous: Tensor, current: Tensor) -> State:
    """Return the state before the first block: no motion. Frames Bx3xHxW in 0..1, sides multiples of 16."""
    flow = previous.new_zeros(previous.shape[0], 4, *previous.shape[2:])
    return State(flow, flow[:, :1], previous, current)


def advance(network: DMVFN, previous: Tensor, current: Tensor, state: State, index: int) -> State:
    """Return the state after block `index`."""
    inputs = torch.cat((previous, current, state.warped_previous, state.warped_current, state.mask), 1)
    flow_step, mask_step = network.block(index)(inputs.contiguous(memory_format=torch.channels_last), state.flow)
    # Coordinates stay in float32 under mixed precision: half a pixel at 1000 is beyond bfloat16.
    flow, mask = state.flow + flow_step.float(), state.mask + mask_step.float()
    return State(flow, mask, warp(previous, flow[:, :2]), warp(current, flow[:, 2:]))


def run(network: DMVFN, previous: Tensor, current: Tensor, blocks: Sequence[int]) -> list[State]:
    """Run `blocks` in that order on frames as `start` takes them; return the state after each."""
    state, states = start(previous, current), []
    for index in blocks:
        state = advance(network, previous, current, state, index)
        states.append(state)
    return states
