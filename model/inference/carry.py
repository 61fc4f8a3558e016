"""Carries the network's motion on to any moment on the device it is on: `model.motion.carry` for tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn.warp import warp
from model.motion.carry import BACK_ROUNDS, BESIDE, JUMP


class CarriedPrediction(NamedTuple):
    """What one prediction shows at one moment."""

    place: int  #: of the moment among those asked for
    frame: Tensor  #: Bx3xHxW in 0..1
    flow: Tensor  #: Bx4xHxW pixels: to the previous frame, to the current
    weight: Tensor  #: Bx1xHxW, of the previous frame


@torch.inference_mode()
def carried(
    previous: Tensor, current: Tensor, flow: Tensor, weight: Tensor, times: Sequence[float]
) -> Iterator[CarriedPrediction]:
    """Yield what each of `times` shows, in the order of time.

    previous, current: Bx3xHxW in 0..1; flow: Bx4xHxW pixels and weight: Bx1xHxW in 0..1, as predicted for t = 1.
    """
    to_current = flow[:, 2:]
    values = torch.cat((flow, weight), 1)
    moment, whole = 1, torch.zeros_like(to_current)
    for index in sorted(range(len(times)), key=times.__getitem__):
        t = times[index]
        while moment + 1 <= t:
            whole, moment = whole + warp(to_current, whole), moment + 1
        part = t - moment
        offset = whole + part * warp(to_current, whole)
        if part < 0:
            offset, values_at_t = _back(values, part)
        else:
            values_at_t = warp(values, offset)
        there = values_at_t[:, :4] + torch.cat((offset, offset), 1)
        share = values_at_t[:, 4:] * min(1.0, t)
        frame = warp(previous, there[:, :2]) * share + warp(current, there[:, 2:]) * (1 - share)
        yield CarriedPrediction(index, frame.clamp(0, 1), there, values_at_t[:, 4:])


def _back(values: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """Find for `part` < 0 the offsets Bx2xHxW that lead back to each pixel, and the `values` Bx5xHxW there.

    As `model.motion.carry` does: what has no such offset moves as in its own place, and has the
    values of that.
    """
    to_current = values[:, 2:4]
    own = offset = part * to_current
    for _ in range(BACK_ROUNDS):
        offset = part * warp(to_current, offset)
    values_at_t = warp(values, offset)
    jump = (values_at_t[:, 2:4] - offset / part).abs().amax(1, keepdim=True)
    hidden = F.max_pool2d(jump, BESIDE.shape, 1, BESIDE.shape[0] // 2) > JUMP
    return torch.where(hidden, own, offset), torch.where(hidden, values, values_at_t)
