"""Routed inference: every sample its own route, each block run once on the rows that chose it.

Knows tensors only: no route policy, no image formats, no batching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model import geometry
from model.network import DMVFN
from model.warp import blend, warp


class Prediction(NamedTuple):
    """One predicted step for a batch."""

    frame: Tensor  #: Bx3xHxW in 0..1
    flow: Tensor  #: Bx4xHxW in pixels: x, y for the older frame, x, y for the newer
    mask: Tensor  #: Bx1xHxW logits; sigmoid is the older frame's weight


@torch.inference_mode()
def probabilities(network: DMVFN, older: Tensor, newer: Tensor, scale: float = 1.0) -> Tensor:
    """Routing probabilities Bxn of frames Bx3xHxW of any size (padded and reduced as `predict` does)."""
    older, newer = _reduced(older, scale), _reduced(newer, scale)
    return network.routing_probabilities(geometry.pad(older), geometry.pad(newer))


@torch.inference_mode()
def predict(network: DMVFN, older: Tensor, newer: Tensor, routes: Tensor, scale: float = 1.0) -> Prediction:
    """The next frame of every pair.

    older, newer: Bx3xHxW in 0..1, any size of at least 1x1, in the network's colour order. routes: Bxn bool,
    one row a sample; a row without a block answers the newer frame. scale: 1, 1/2 or 1/4; below 1 the flow is
    estimated on frames reduced by it and the full frames are warped. ValueError where shapes disagree.
    """
    _check(network, older, newer, routes)
    height, width = older.shape[-2:]
    small_older, small_newer = _reduced(older, scale), _reduced(newer, scale)
    flow, mask = _estimate(network, geometry.pad(small_older), geometry.pad(small_newer), routes)
    flow = geometry.crop(flow, *small_older.shape[-2:])
    mask = geometry.crop(mask, *small_older.shape[-2:])
    if scale != 1.0:
        # Flow is in pixels of the reduced frame; the exact ratio matters where sides do not divide.
        ratio_y, ratio_x = height / flow.shape[-2], width / flow.shape[-1]
        ratio = flow.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y]).view(1, 4, 1, 1)
        flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False) * ratio
        mask = F.interpolate(mask, size=(height, width), mode="bilinear", align_corners=False)
    frame = blend(warp(older, flow[:, :2]), warp(newer, flow[:, 2:]), mask)
    chosen = routes.any(1)
    if not bool(chosen.all()):
        frame = torch.where(chosen.view(-1, 1, 1, 1), frame, newer)
    return Prediction(frame, flow, mask)


def _estimate(network: DMVFN, older: Tensor, newer: Tensor, routes: Tensor) -> tuple[Tensor, Tensor]:
    """Flow Bx4xHxW and mask Bx1xHxW after every sample's own blocks; sides multiples of 16."""
    # 17 channels: older, newer, warped older, warped newer, mask | flow. One buffer, updated in place,
    # so that no block pays for a concatenation of what did not change.
    state = older.new_zeros(older.shape[0], 17, *older.shape[2:])
    state[:, 0:3], state[:, 3:6], state[:, 6:9], state[:, 9:12] = older, newer, older, newer
    rows_of = [column.nonzero().flatten() for column in routes.to("cpu").unbind(1)]
    last = max((i for i, rows in enumerate(rows_of) if len(rows)), default=-1)
    for i, rows in enumerate(rows_of):
        if not len(rows):
            continue
        everyone = len(rows) == older.shape[0]
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


def _reduced(frames: Tensor, scale: float) -> Tensor:
    if scale == 1.0:
        return frames
    if scale not in (0.5, 0.25):
        raise ValueError(f"scale must be 1, 0.5 or 0.25, not {scale}")
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)


def _check(network: DMVFN, older: Tensor, newer: Tensor, routes: Tensor) -> None:
    if older.shape != newer.shape or older.dim() != 4 or older.shape[1] != 3:
        raise ValueError(f"older and newer must both be Bx3xHxW, not {tuple(older.shape)} and {tuple(newer.shape)}")
    if routes.dtype != torch.bool or routes.shape != (older.shape[0], network.config.blocks):
        raise ValueError(f"routes must be bool {older.shape[0]}x{network.config.blocks}, not {tuple(routes.shape)}")
