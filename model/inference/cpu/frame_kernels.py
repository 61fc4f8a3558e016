"""What the CPU path does with frames, as compiled loops: loading, reducing, warping, blending.

Channels last, one sample; frames, flow and mask float32, maps as `model.inference.cpu.convolution_kernels` has them.
Loops run over contiguous one-dimensional views whose index starts at zero, because that is the form the compiler
vectorises.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.inference.cpu.compiler import F1, F3, F4, ONE, QUARTER, ZERO, inlined, kernel, prange
from model.inference.cpu.convolution_kernels import clear_around
from model.inference.cpu.lanes import narrowed, widened
from model.inference.cpu.packing import PRECISE, SEEN
from model.inference.cpu.warp_tiles import warp_pixel


@inlined
def _load_row(y: Any, previous: Any, current: Any, width: Any, gather: Any, maps: Any) -> None:
    row = min(y, previous.shape[1] - 1)
    for x in range(width):
        column = min(x, previous.shape[2] - 1)
        out = maps[y + 1, x + 1]
        for c in range(3):
            gather[0, y, x, c] = previous[c, row, column]
            gather[1, y, x, c] = current[c, row, column]
            out[c] = narrowed(previous[c, row, column], maps)
            out[3 + c] = narrowed(current[c, row, column], maps)
        for c in range(6, maps.shape[2]):
            out[c] = narrowed(ZERO, maps)
        gather[0, y, x, 3] = ZERO
        gather[1, y, x, 3] = ZERO


def load(previous: Any, current: Any, height: Any, width: Any, gather: Any, maps: Any) -> None:
    """Load two frames 3xhxw, any strides, into gather 2xHxWx4 and maps of HxW pixels, the last row and column repeated.

    Maps have six channels and zeros.
    """
    clear_around(maps, height, width)
    for y in prange(height):
        _load_row(np.int64(y), previous, current, width, gather, maps)


@inlined
def _reduce_row(y: Any, full: Any, scale: Any, width: Any, small: Any) -> None:
    # Both have a border of one.
    first, channels = scale // 2, full.shape[2]
    plain = PRECISE if channels > SEEN else channels
    above, below = full[y * scale + first], full[y * scale + first + 1]
    for x in range(width):
        left = x * scale + first
        a, b, c, d = above[left], above[left + 1], below[left], below[left + 1]
        out = small[y + 1, x + 1]
        for k in range(plain):
            value = QUARTER * ((widened(a[k]) + widened(b[k])) + (widened(c[k]) + widened(d[k])))
            out[k] = narrowed(value, small)
        for k in range(plain, (plain + channels) // 2):
            rest = k + SEEN - PRECISE
            value = ZERO
            for pixel in (a, b, c, d):
                value += QUARTER * (widened(pixel[k]) + widened(pixel[rest]))
            out[k] = narrowed(value, small)
            out[rest] = narrowed(value - widened(out[k]), small)


def reduce(full: Any, scale: Any, height: Any, width: Any, small: Any) -> None:
    """Reduce maps by `scale` to height x width: the mean of the central 2x2 of each square (bilinear).

    What bfloat16 has twice is reduced as the one number that it is.
    """
    clear_around(small, height, width)
    for y in prange(height):
        _reduce_row(np.int64(y), full, scale, width, small)


@inlined
def _sample(image: Any, x: Any, y: Any, out: Any) -> None:
    """Sample image HxWx4 at (x, y) in pixels, the border repeated, into out[0..2]."""
    height, width = image.shape[0], image.shape[1]
    # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
    x = x if x > ZERO else ZERO
    y = y if y > ZERO else ZERO
    x, y = min(x, np.float32(width - 1)), min(y, np.float32(height - 1))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - np.float32(left), y - np.float32(top)
    a, b, c, d = image[top, left], image[top, right], image[bottom, left], image[bottom, right]
    wa, wb = (ONE - fx) * (ONE - fy), fx * (ONE - fy)
    wc, wd = (ONE - fx) * fy, fx * fy
    for k in range(3):
        out[k] = wa * a[k] + wb * b[k] + wc * c[k] + wd * d[k]


@inlined
def _advance_row(y: Any, state: Any, bias: Any, gather: Any, maps: Any, first: Any) -> None:
    height, width, channels = gather.shape[1], gather.shape[2], maps.shape[2]
    values, frames, out = state.reshape(-1), gather.reshape(-1), maps.reshape(-1)
    for x in range(width):
        at = ((y + 1) * maps.shape[1] + x + 1) * channels
        place = (y * state.shape[1] + x + 1) * state.shape[2]
        warp_pixel(values, place, bias, frames, height, width, x, y, first, out, at)


def advance(state: Any, bias: Any, gather: Any, maps: Any, first: Any) -> None:
    """Write the next block's input, maps of HxW pixels, from state Hx(W+3)x6 (flow, mask; bias 6 still to be added).

    Channels: previous, current, both warped by the flow, mask, flow; in bfloat16 also what mask and flow lack there.
    The frames are written only where `first`.
    """
    if first:
        clear_around(maps, gather.shape[1], gather.shape[2])
    for y in prange(gather.shape[1]):
        _advance_row(np.int64(y), state, bias, gather, maps, first)


@inlined
def _blend_row(y: Any, state: Any, bias: Any, gather: Any, frame: Any, flow: Any, mask: Any) -> None:
    previous, current = np.empty(3, np.float32), np.empty(3, np.float32)
    for x in range(frame.shape[2]):
        s = state[y, x + 1]
        for k in range(4):
            flow[k, y, x] = s[k] + bias[k]
        logit = s[4] + bias[4]
        mask[0, y, x] = logit
        weight = ONE / (ONE + np.float32(math.exp(-logit)))
        _sample(gather[0], np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x], previous)
        _sample(gather[1], np.float32(x) + flow[2, y, x], np.float32(y) + flow[3, y, x], current)
        for k in range(3):
            value = previous[k] * weight + current[k] * (ONE - weight)
            frame[k, y, x] = min(max(value, ZERO), ONE)


@kernel(f"{F3}, {F1}, {F4}, {F3}, {F3}, {F3}")
def blend(state: Any, bias: Any, gather: Any, frame: Any, flow: Any, mask: Any) -> None:
    """Blend state Hx(W+3)x6 and gather 2xHxWx4 into frame 3xhxw, flow 4xhxw, mask 1xhxw; h, w at most H, W."""
    for y in prange(frame.shape[1]):
        _blend_row(np.int64(y), state, bias, gather, frame, flow, mask)
