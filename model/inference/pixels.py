"""uint8 pictures <-> the network's tensors, on whatever device they are. Knows colours and ranges, no sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_frames(pictures: Sequence[NDArray[np.uint8]], device: torch.device, *, bgr: bool = False) -> Tensor:
    """Convert B pictures HxWx3 RGB of one size to Bx3xHxW float32 in 0..1 on `device`, as `normalise` does.

    They are not written to. uint8 travels to a GPU, a quarter of the bytes.
    """
    if device.type == "cpu" and (loops := _compiled_loops()) is not None:
        frames = torch.empty(len(pictures), 3, *pictures[0].shape[:2])
        for picture, frame in zip(pictures, frames.numpy(), strict=True):
            loops.to_frame(np.ascontiguousarray(picture), frame, bgr)
        return frames
    batch = torch.from_numpy(np.stack(pictures))
    if device.type == "cuda":
        batch = batch.pin_memory()  # else the driver copies it there itself, and waits
    return normalise(batch.to(device, non_blocking=True), bgr=bgr)


def normalise(pictures: Tensor, *, bgr: bool = False) -> Tensor:
    """Convert BxHxWx3 uint8 RGB to Bx3xHxW float32 in 0..1, red first or (`bgr`) blue first."""
    if pictures.device.type == "cpu" and _compiled_loops() is not None:
        return to_frames(list(pictures.numpy()), pictures.device, bgr=bgr)
    if bgr:
        pictures = pictures.flip(3)
    # Contiguous as the published network had them: convolutions on strided input round differently.
    return pictures.permute(0, 3, 1, 2).contiguous().float().div_(255)


def to_pictures(frame: Tensor, *, bgr: bool = False) -> Tensor:
    """Convert (B x) 3xHxW in 0..1 to (B x) HxWx3 uint8 RGB, rounded, contiguous."""
    if frame.device.type == "cpu" and (loops := _compiled_loops()) is not None:
        *count, channels, height, width = frame.shape
        frames = frame.detach().float().contiguous().view(-1, channels, height, width)
        pictures = torch.empty(*count, height, width, channels, dtype=torch.uint8)
        pairs = zip(frames.numpy(), pictures.view(-1, height, width, channels).numpy(), strict=True)
        for levels, pixels in pairs:
            loops.to_picture(levels, pixels, bgr)
        return pictures
    # A copy in the answer's own layout first: every later step then runs over neighbouring values, in place.
    values = frame.movedim(-3, -1).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    pixels = values.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.flip(-1) if bgr else pixels


@cache
def _compiled_loops() -> Any:
    """Return the compiled loops, or None without numba."""
    return import_module("model.inference.cpu.pixel_kernels") if find_spec("numba") is not None else None
