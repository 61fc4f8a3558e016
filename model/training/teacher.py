"""Flow of real triples by a classical estimator that is shown the true next frame: supervision for the first steps.

OpenCV's DIS on the CPU, frame by frame.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.dmvfn.warp import warp
from model.motion import classical


def flow(
    previous: Tensor, current: Tensor, target: Tensor, preset: classical.Preset = "medium"
) -> tuple[Tensor, Tensor]:
    """Estimate flow Bx4xHxW (target to previous, to current; pixels), trust Bx2xHxW of 0/1 from frames Bx3xHxW in 0..1.

    Trust is 1 where following the flow explains the target better than standing still: elsewhere (occlusion,
    a failed match) the estimate would teach an error.
    """
    flows, trust = [], []
    for source in (previous, current):
        estimate = _dis(target, source, preset)
        warp_error = (warp(source, estimate) - target).abs().mean(1, keepdim=True)
        still = (source - target).abs().mean(1, keepdim=True)
        flows.append(estimate)
        trust.append((warp_error <= still + 1.0 / 255).float())
    return torch.cat(flows, 1), torch.cat(trust, 1)


def _dis(target: Tensor, source: Tensor, preset: classical.Preset) -> Tensor:
    flows = [classical.dis(a, b, preset) for a, b in zip(_grey(target), _grey(source), strict=True)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(target)


def _grey(frames: Tensor) -> list[NDArray[Any]]:
    levels = (frames.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)).cpu().numpy()
    return [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in levels]
