"""Loops of the GPU path, in Triton: what stands between two convolutions, each in one pass over memory.

Maps lie channels last, so that a pixel's channels are one vector. Knows no network and no batch policy.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: A pixel of both frames (six values) or of state (four of flow, the mask) is this wide: a whole vector, zeros behind.
PLACES = 8
#: A pixel of a block's input: both frames from 0, both warped frames from 8, flow and mask from 16.
INPUT = 3 * PLACES
#: Pixels a program takes.
_BLOCK = 128


@triton.jit
def _bilinear(picture, x, y, channel, height, width):
    """Sample one picture HxWx8 at pixel coordinates x, y, border values outside."""
    # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
    x = tl.where(x > 0.0, tl.where(x < width - 1.0, x, width - 1.0), 0.0)
    y = tl.where(y > 0.0, tl.where(y < height - 1.0, y, height - 1.0), 0.0)
    left, top = tl.floor(x), tl.floor(y)
    right_part, low_part = x - left, y - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    # On the last column or row the far neighbour weighs nothing, but must still be a place inside.
    right, low = tl.minimum(column + 1, width - 1), tl.minimum(row + 1, height - 1)
    here = tl.load(picture + (row * width + column) * 8 + channel)
    beside = tl.load(picture + (row * width + right) * 8 + channel)
    below = tl.load(picture + (low * width + column) * 8 + channel)
    across = tl.load(picture + (low * width + right) * 8 + channel)
    upper = here + (beside - here) * right_part
    lower = below + (across - below) * right_part
    return upper + (lower - upper) * low_part


@triton.jit
def _advance(frames, increment, state, inputs, height, width, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64) * height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, 8)[None, :]
    inside = (pixel < height * width) & (channel < 8)
    frames += sample * 8
    place = pixel * 8 + channel
    now = tl.load(state + sample * 8 + place, inside, 0.0)
    now += tl.load(increment + sample * 8 + place, inside, 0.0).to(tl.float32)
    tl.store(state + sample * 8 + place, now, inside)
    # A pixel's five values, each where the channels that need it can see it.
    previous_x = tl.sum(tl.where(channel == 0, now, 0.0), 1)[:, None]
    previous_y = tl.sum(tl.where(channel == 1, now, 0.0), 1)[:, None]
    current_x = tl.sum(tl.where(channel == 2, now, 0.0), 1)[:, None]
    current_y = tl.sum(tl.where(channel == 3, now, 0.0), 1)[:, None]
    x = pixel % width + tl.where(channel < 3, previous_x, current_x)
    y = pixel // width + tl.where(channel < 3, previous_y, current_y)
    values = _bilinear(frames, x, y, channel, height, width)
    inputs += sample * 24
    place = pixel * 24 + channel
    kind = inputs.dtype.element_ty
    tl.store(inputs + place, tl.load(frames + pixel * 8 + channel, inside, 0.0).to(kind), inside)
    tl.store(inputs + place + 8, values.to(kind), inside)
    tl.store(inputs + place + 16, now.to(kind), inside)


@triton.jit
def _finish(frames, increment, state, out, height, width, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64) * height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    frames += sample * 8
    now, step = state + sample * 8 + pixel * 8, increment + sample * 8 + pixel * 8
    out += sample * 8
    previous_x = tl.load(now, inside, 0.0) + tl.load(step, inside, 0.0).to(tl.float32)
    previous_y = tl.load(now + 1, inside, 0.0) + tl.load(step + 1, inside, 0.0).to(tl.float32)
    current_x = tl.load(now + 2, inside, 0.0) + tl.load(step + 2, inside, 0.0).to(tl.float32)
    current_y = tl.load(now + 3, inside, 0.0) + tl.load(step + 3, inside, 0.0).to(tl.float32)
    mask = tl.load(now + 4, inside, 0.0) + tl.load(step + 4, inside, 0.0).to(tl.float32)
    weight = tl.sigmoid(mask)
    plane = height * width
    for c in tl.static_range(3):
        previous = _bilinear(frames, pixel % width + previous_x, pixel // width + previous_y, c, height, width)
        current = _bilinear(frames, pixel % width + current_x, pixel // width + current_y, c + 3, height, width)
        values = previous * weight + current * (1.0 - weight)
        # Compared, not minimum and maximum: those may swallow a NaN, which callers must get to see.
        values = tl.where(values < 0.0, 0.0, tl.where(values > 1.0, 1.0, values))
        tl.store(out + c * plane + pixel, values, inside)
    tl.store(out + 3 * plane + pixel, previous_x, inside)
    tl.store(out + 4 * plane + pixel, previous_y, inside)
    tl.store(out + 5 * plane + pixel, current_x, inside)
    tl.store(out + 6 * plane + pixel, current_y, inside)
    tl.store(out + 7 * plane + pixel, mask, inside)


@triton.jit
def _activate(maps, bias, slopes, residual, count, CHANNELS: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    channel = place % CHANNELS
    value = tl.load(maps + place, inside, 0.0).to(tl.float32) + tl.load(bias + channel, inside, 0.0)
    value = tl.where(value > 0.0, value, value * tl.load(slopes + channel, inside, 0.0))
    if ADD:
        value += tl.load(residual + place, inside, 0.0).to(tl.float32)
    tl.store(maps + place, value.to(maps.dtype.element_ty), inside)


def advance(frames: Tensor, increment: Tensor, state: Tensor, inputs: Tensor) -> None:
    """Add `increment` to `state`, warp both frames by the sum, and write the next block's input to `inputs`.

    All channels last: frames BxHxWx8 float32 (previous, current), increment BxHxWx8 of any floating type, state BxHxWx8
    float32 (flow of the previous frame x, y, of the current x, y, in pixels; mask), seen BxHxWx24 of the blocks' type.
    """
    count, height, width, _ = frames.shape
    assert all(maps.is_contiguous() for maps in (frames, increment, state, inputs))
    grid = (triton.cdiv(height * width, _BLOCK), count)
    _advance[grid](frames, increment, state, inputs, height, width, BLOCK=_BLOCK)


def finish(frames: Tensor, increment: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return frame Bx3xHxW in 0..1, flow Bx4xHxW and mask Bx1xHxW after the last increment, all float32."""
    count, height, width, _ = frames.shape
    assert all(maps.is_contiguous() for maps in (frames, increment, state))
    out = frames.new_empty(count, PLACES, height, width)
    grid = (triton.cdiv(height * width, _BLOCK), count)
    _finish[grid](frames, increment, state, out, height, width, BLOCK=_BLOCK)
    return out[:, :3], out[:, 3:7], out[:, 7:]


def activate(maps: Tensor, bias: Tensor, slopes: Tensor, residual: Tensor | None = None) -> Tensor:
    """Apply in place, channels last: PReLU of maps BxCxHxW plus bias C, slopes C; then add `residual`, shaped alike."""
    assert maps.is_contiguous(memory_format=torch.channels_last)
    if residual is not None:
        assert residual.is_contiguous(memory_format=torch.channels_last)
    grid = (triton.cdiv(maps.numel(), 4 * _BLOCK),)
    other = maps if residual is None else residual
    _activate[grid](
        maps, bias, slopes, other, maps.numel(), CHANNELS=maps.shape[1], ADD=residual is not None, BLOCK=4 * _BLOCK
    )
    return maps
