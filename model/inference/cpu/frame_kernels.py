"""What the CPU path does with frames, as compiled loops: loading, reducing, warping, blending.

Channels last, one sample; frames, flow and mask float32, maps as `model.inference.cpu.convolution_kernels` has them.
Loops run over contiguous one-dimensional views whose index starts at zero, because that is the form the compiler
vectorises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import F1, F3, F4, ONE, QUARTER, ZERO, inlined, kernel, prange
from model.inference.cpu.convolution_kernels import clear_around
from model.inference.cpu.exponential import power_of_e
from model.inference.cpu.lanes import copied, narrowed, widened
from model.inference.cpu.packing import SEEN
from model.inference.cpu.reduce_tiles import reduce_seen
from model.inference.cpu.warp_tiles import blend_row, warp_row


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
def copy_row(source: Any, row: Any, maps: Any, place: Any) -> None:
    """Copy row `row` of maps, with its border, to row `place` of `maps`."""
    count = source.shape[1] * source.shape[2]
    # A loop over numbers takes one at a time where both are rows of the same maps.
    copied(source.reshape(-1), row * count, count, maps.reshape(-1), place * count)


@inlined
def reduce_row(y: Any, full: Any, scale: Any, width: Any, small: Any) -> None:
    """Write row y of maps reduced by `scale`: the mean of the central 2x2 of each square (bilinear), of 1 a copy.

    What bfloat16 has twice (`packing.SEEN`) is reduced as the one number that it is.
    """
    if scale == 1:
        copy_row(full, y + 1, small, y + 1)
        return
    # Both have a border of one.
    first, channels = scale // 2, full.shape[2]
    if channels >= SEEN:
        row = full.shape[1] * channels
        reduce_seen(
            full.reshape(-1), (y * scale + first) * row + first * channels, row, channels, scale, width,
            small.reshape(-1), ((y + 1) * small.shape[1] + 1) * channels,
        )  # fmt: skip
        return
    above, below = full[y * scale + first], full[y * scale + first + 1]
    for x in range(width):
        left = x * scale + first
        a, b, c, d = above[left], above[left + 1], below[left], below[left + 1]
        out = small[y + 1, x + 1]
        for k in range(channels):
            value = QUARTER * ((widened(a[k]) + widened(b[k])) + (widened(c[k]) + widened(d[k])))
            out[k] = narrowed(value, small)


@inlined
def see_row(y: Any, row: Any, state: Any, bias: Any, gather: Any, maps: Any) -> None:
    """Write what a block sees of row y of pixels to row `row` of maps, behind one pixel of border."""
    warp_row(
        state.reshape(-1), (y * state.shape[1] + 1) * state.shape[2], bias,
        gather.reshape(-1), gather.shape[1], gather.shape[2], y,
        maps.reshape(-1), (row * maps.shape[1] + 1) * maps.shape[2], maps.shape[2],
    )  # fmt: skip


@inlined
def _blend_row(
    y: Any, state: Any, bias: Any, gather: Any, weights: Any, mixed: Any, frame: Any, flow: Any, mask: Any
) -> None:
    width, values = frame.shape[2], state[y, 1:]
    for k in range(4):
        row, offset = flow[k, y], bias[k]
        for x in range(width):
            row[x] = values[x, k] + offset
    row, offset = mask[0, y], bias[4]
    for x in range(width):
        row[x] = values[x, 4] + offset
    for x in range(width):
        # One that is no number gives no number.
        power = power_of_e(-abs(row[x])) + row[x] * ZERO
        weights[x] = (ONE if row[x] > ZERO else power) / (ONE + power)
    blend_row(
        state.reshape(-1), (y * state.shape[1] + 1) * state.shape[2], bias,
        gather.reshape(-1), gather.shape[1], gather.shape[2], y, weights, width, mixed.reshape(-1),
    )  # fmt: skip
    for k in range(3):
        colours, row = mixed[k], frame[k, y]
        for x in range(width):
            row[x] = min(max(colours[x], ZERO), ONE)


@kernel(f"{F3}, {F1}, {F4}, {F3}, {F3}, {F3}")
def blend(state: Any, bias: Any, gather: Any, frame: Any, flow: Any, mask: Any) -> None:
    """Blend state hx(W+3)x6 and gather 2xHxWx4 into frame 3xhxw, flow 4xhxw, mask 1xhxw; h, w at most H, W.

    W is a multiple of 16.
    """
    height, width = frame.shape[1], gather.shape[2]
    bands = min(height, 16)
    for band in prange(bands):
        weights, mixed = np.zeros(width, np.float32), np.empty((3, width), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            _blend_row(y, state, bias, gather, weights, mixed, frame, flow, mask)
