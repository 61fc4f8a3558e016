"""Routed inference in plain torch: any device, any floating type, nothing to prepare.

The path of a GPU, of a processor without numba, and the one every other path is tested against.
"""

from __future__ import annotations

from torch import Tensor

from model.dmvfn.network import DMVFN
from model.dmvfn.warp import warp


def estimate(network: DMVFN, previous: Tensor, current: Tensor, routes: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate flow Bx4xHxW and mask Bx1xHxW by every sample's own blocks; sides multiples of 16, routes Bxn bool."""
    # 17 channels: previous, current, warped previous, warped current, mask | flow. One buffer, updated in place,
    # so that no block pays for a concatenation of what did not change.
    state = previous.new_zeros(previous.shape[0], 17, *previous.shape[2:])
    state[:, 0:3], state[:, 3:6], state[:, 6:9], state[:, 9:12] = previous, current, previous, current
    rows_of = [column.nonzero().flatten() for column in routes.to("cpu").unbind(1)]
    last = max((i for i, rows in enumerate(rows_of) if len(rows)), default=-1)
    for i, rows in enumerate(rows_of):
        if not len(rows):
            continue
        everyone = len(rows) == previous.shape[0]
        part = state if everyone else state[rows.to(state.device)]
        flow_step, mask_step = network.block(i)(part[:, :13], part[:, 13:])
        part[:, 12:13] += mask_step
        part[:, 13:17] += flow_step
        if i != last:
            part[:, 6:9] = warp(part[:, 0:3], part[:, 13:15])
            part[:, 9:12] = warp(part[:, 3:6], part[:, 15:17])
        if not everyone:
            state[rows.to(state.device)] = part
    return state[:, 13:17], state[:, 12:13]
