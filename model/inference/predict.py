"""Routed inference: every sample its own route, on the fastest path that can run it.

On a CPU with numba `model.inference.cpu.runner`, on a GPU with triton `model.inference.cuda.runner`, else
`model.inference.torch_path`. Knows tensors only:
no route policy, no image formats, no batching.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class FramePairs:
    """Pairs of frames to be routed and predicted: what both need is done once.

    The frames must not be changed in place while this is used, nor the network.
    """

    @torch.inference_mode()
    def __init__(self, network: DMVFN, previous: Tensor, current: Tensor, scale: float = 1.0) -> None:
        """Take frames Bx3xHxW in 0..1, any size of at least 1x1, in the network's colour order.

        scale: 1, 1/2 or 1/4; below 1 the flow is estimated on frames reduced by it and the full frames are warped.
        ValueError where shapes disagree.
        """
        _check(previous, current)
        self._network, self._scale = network, scale
        self._previous, self._current = previous, current
        self._small_previous, self._small_current = _reduced(previous, scale), _reduced(current, scale)
        self._ready = _fastest(network, previous, current)
        # On a CPU loading the frames takes a part of the routing's time that is worth saving.
        self._loading = {"frames_key": object()} if isinstance(self._ready, CpuRunner) else {}

    @torch.inference_mode()
    def probabilities(self, rows: Sequence[int] | None = None) -> Tensor:
        """Estimate routing probabilities Bxn of all pairs, or of those in `rows`, in that order."""
        previous, current, loading = self._small_previous, self._small_current, self._loading
        if rows is not None and list(rows) != list(range(len(previous))):
            pick = torch.tensor(list(rows), dtype=torch.long, device=previous.device)
            previous, current, loading = previous[pick], current[pick], {}
        if self._ready is not None:
            return self._ready.probabilities(previous, current, **loading)
        return self._network.routing_probabilities(padding.pad(previous), padding.pad(current))

    @torch.inference_mode()
    def predict(self, routes: Tensor) -> Prediction:
        """Predict the next frame of every pair, along routes Bxn (bool), one row a pair.

        A row without a block answers the current frame. ValueError where the routes do not fit.
        """
        if routes.dtype != torch.bool or routes.shape != (len(self._previous), self._network.config.blocks):
            expected = f"{len(self._previous)}x{self._network.config.blocks}"
            raise ValueError(f"routes must be bool {expected}, not {tuple(routes.shape)}")
        if self._ready is not None and self._scale == 1.0:
            return Prediction(*self._ready.predict(self._previous, self._current, routes.tolist(), **self._loading))
        flow, mask = self._motion(routes)
        if self._scale != 1.0:
            flow, mask = _enlarged(flow, mask, *self._previous.shape[-2:])
        if self._ready is not None:
            frame = self._ready.blend(self._previous, self._current, flow, mask)
        else:
            frame = blend(warp(self._previous, flow[:, :2]), warp(self._current, flow[:, 2:]), mask)
        nonempty = routes.any(1)
        if not bool(nonempty.all()):
            frame = torch.where(nonempty.view(-1, 1, 1, 1), frame, self._current)
        return Prediction(frame, flow, mask)

    def _motion(self, routes: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate flow and mask of the reduced frames."""
        previous, current = self._small_previous, self._small_current
        if self._ready is not None:
            _, flow, mask = self._ready.predict(previous, current, routes.tolist(), **self._loading)
            return flow, mask
        flow, mask = torch_path.estimate(self._network, padding.pad(previous), padding.pad(current), routes)
        return padding.crop(flow, *previous.shape[-2:]), padding.crop(mask, *previous.shape[-2:])


def probabilities(network: DMVFN, previous: Tensor, current: Tensor, scale: float = 1.0) -> Tensor:
    """Estimate routing probabilities Bxn, as `FramePairs` does."""
    return FramePairs(network, previous, current, scale).probabilities()


def predict(network: DMVFN, previous: Tensor, current: Tensor, routes: Tensor, scale: float = 1.0) -> Prediction:
    """Predict the next frame of every pair along `routes` Bxn, as `FramePairs` does."""
    return FramePairs(network, previous, current, scale).predict(routes)


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


def _check(previous: Tensor, current: Tensor) -> None:
    if previous.shape != current.shape or previous.dim() != 4 or previous.shape[1] != 3:
        raise ValueError(
            f"previous and current must both be Bx3xHxW, not {tuple(previous.shape)} and {tuple(current.shape)}"
        )
