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

    flow: Tensor  #: Bx4xHxW pixels: x, y of the older frame, x, y of the newer
    mask: Tensor  #: Bx1xHxW logits of the older frame's weight
    warped_older: Tensor  #: Bx3xHxW
    warped_newer: Tensor  #: Bx3xHxW

    @property
    def frame(self) -> Tensor:
        """Return the prediction so far, Bx3xHxW."""
        return blend(self.warped_older, self.warped_newer, self.mask)


def start(older: Tensor, newer: Tensor) -> State:
    """Return the state before the first block: no motion. Frames Bx3xHxW in 0..1, sides multiples of 16."""
    flow = older.new_zeros(older.shape[0], 4, *older.shape[2:])
    return State(flow, flow[:, :1], older, newer)


def advance(network: DMVFN, older: Tensor, newer: Tensor, state: State, index: int) -> State:
    """Return the state after block `index`."""
    inputs = torch.cat((older, newer, state.warped_older, state.warped_newer, state.mask), 1)
    flow_step, mask_step = network.block(index)(inputs.contiguous(memory_format=torch.channels_last), state.flow)
    # Coordinates stay in float32 under mixed precision: half a pixel at 1000 is beyond bfloat16.
    flow, mask = state.flow + flow_step.float(), state.mask + mask_step.float()
    return State(flow, mask, warp(older, flow[:, :2]), warp(newer, flow[:, 2:]))


def run(network: DMVFN, older: Tensor, newer: Tensor, blocks: Sequence[int]) -> list[State]:
    """Run `blocks` in that order on frames as `start` takes them; return the state after each."""
    state, states = start(older, newer), []
    for index in blocks:
        state = advance(network, older, newer, state, index)
        states.append(state)
    return states
