"""Routed inference: every sample its own route, on the fastest path that can run it.

On a CPU with numba `model.inference.cpu.runner`, on a GPU with triton `model.inference.cuda.runner`, else
`model.inference.torch_path`. Knows tensors only:
no route policy, no image formats, no batching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.dmvfn.warp import blend, warp
from model.inference import padding, torch_path
from model.inference.cpu import runner as cpu_runner
from model.inference.cpu.runner import CpuRunner
from model.inference.cuda import runner as cuda_runner
from model.inference.cuda.runner import CudaRunner


class Prediction(NamedTuple):
    """One predicted step for a batch."""

    frame: Tensor  #: Bx3xHxW in 0..1
    flow: Tensor  #: Bx4xHxW in pixels: x, y for the previous frame, x, y for the current
    mask: Tensor  #: Bx1xHxW logits; sigmoid is the previous frame's weight


@torch.inference_mode()
def probabilities(network: DMVFN, previous: Tensor, current: Tensor, scale: float = 1.0) -> Tensor:
    """Estimate routing probabilities Bxn of frames Bx3xHxW of any size (padded and reduced as `predict` does)."""
    previous, current = _reduced(previous, scale), _reduced(current, scale)
    ready = _fastest(network, previous, current)
    if ready is not None:
        return ready.probabilities(previous, current)
    return network.routing_probabilities(padding.pad(previous), padding.pad(current))


@torch.inference_mode()
def predict(network: DMVFN, previous: Tensor, current: Tensor, routes: Tensor, scale: float = 1.0) -> Prediction:
    """Predict the next frame of every pair.

    previous, current: Bx3xHxW in 0..1, any size of at least 1x1, in the network's colour order. routes: Bxn bool,
    one row a sample; a row without a block answers the current frame. scale: 1, 1/2 or 1/4; below 1 the flow is
    estimated on frames reduced by it and the full frames are warped. ValueError where shapes disagree.
    """
    _check(network, previous, current, routes)
    small_previous, small_current = _reduced(previous, scale), _reduced(current, scale)
    ready = _fastest(network, previous, current)
    if ready is not None and scale == 1.0:
        return Prediction(*ready.predict(previous, current, routes.tolist()))
    if ready is not None:
        _, flow, mask = ready.predict(small_previous, small_current, routes.tolist())
    else:
        flow, mask = torch_path.estimate(network, padding.pad(small_previous), padding.pad(small_current), routes)
        flow = padding.crop(flow, *small_previous.shape[-2:])
        mask = padding.crop(mask, *small_previous.shape[-2:])
    if scale != 1.0:
        flow, mask = _enlarged(flow, mask, *previous.shape[-2:])
    if ready is not None:
        frame = ready.blend(previous, current, flow, mask)
    else:
        frame = blend(warp(previous, flow[:, :2]), warp(current, flow[:, 2:]), mask)
    nonempty = routes.any(1)
    if not bool(nonempty.all()):
        frame = torch.where(nonempty.view(-1, 1, 1, 1), frame, current)
    return Prediction(frame, flow, mask)


def release(network: DMVFN) -> None:
    """Give back the device memory that is kept to make the next prediction faster."""
    cuda_runner.release(network)


def _fastest(network: DMVFN, previous: Tensor, current: Tensor) -> CpuRunner | CudaRunner | None:
    """Return the runner that is faster than plain torch on these frames, or None."""
    return cpu_runner.of(network, previous, current) or cuda_runner.of(network, previous, current)


def _enlarged(flow: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Enlarge flow and mask of a reduced frame to height x width; flow stays in pixels of its frame."""
    # The exact ratio matters where sides do not divide.
    ratio_y, ratio_x = height / flow.shape[-2], width / flow.shape[-1]
    ratio = flow.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y]).view(1, 4, 1, 1)
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False) * ratio
    return flow, F.interpolate(mask, size=(height, width), mode="bilinear", align_corners=False)


def _reduced(frames: Tensor, scale: float) -> Tensor:
    if scale == 1.0:
        return frames
    if scale not in (0.5, 0.25):
        raise ValueError(f"scale must be 1, 0.5 or 0.25, not {scale}")
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)


def _check(network: DMVFN, previous: Tensor, current: Tensor, routes: Tensor) -> None:
    if previous.shape != current.shape or previous.dim() != 4 or previous.shape[1] != 3:
        raise ValueError(
            f"older and newer must both be Bx3xHxW, not {tuple(previous.shape)} and {tuple(current.shape)}"
        )
    if routes.dtype != torch.bool or routes.shape != (previous.shape[0], network.config.blocks):
        raise ValueError(f"routes must be bool {previous.shape[0]}x{network.config.blocks}, not {tuple(routes.shape)}")
