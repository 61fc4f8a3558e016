"""A head's compiled loops: what it sees, the convolution of a map enlarged beside a finer one, and its shares.

One sample. Maps are as in `model.inference.cpu.convolution_kernels`: channels last, zeros around, float32 or bfloat16.
The same arithmetic as `MixingHead`'s. Loops run over whole rows of one channel, so that they become vector
instructions; a loop over channels inside one over pixels does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.inference.cpu import convolution_kernels
from model.inference.cpu.compiler import F1, F2, F3, ONE, ZERO, inlined, kernel, prange
from model.inference.cpu.convolution_kernels import clear_around, clear_rows, clear_sides, panel_vectors
from model.inference.cpu.exponential import power_of_e
from model.inference.cpu.kernels import NUMBERS
from model.inference.cpu.lanes import VECTOR, copied, narrowed
from model.inference.cpu.matrix_tiles import sum_of_products
from model.inference.cpu.precision import Arithmetic
from model.mixing.head import DIFFERENCE_GAIN, FLOW_RANGE, MOST_DETAIL

Loop = Callable[..., None]

_HALF, _LEVELS = np.float32(0.5), np.float32(1 / 255)
_RED, _GREEN, _BLUE = np.float32(0.299 / 255), np.float32(0.587 / 255), np.float32(0.114 / 255)
_GAIN, _RANGE, _DETAIL = np.float32(DIFFERENCE_GAIN), np.float32(1 / FLOW_RANGE), np.float32(MOST_DETAIL)


@inlined
def _luma(row: Any, levels: Any) -> None:
    """Write the luma W in 0..1 of a row of 3W interleaved colours."""
    for x in range(levels.shape[0]):
        red, green, blue = np.float32(row[3 * x]), np.float32(row[3 * x + 1]), np.float32(row[3 * x + 2])
        levels[x] = red * _RED + green * _GREEN + blue * _BLUE


@inlined
def _see_row(frames: Any, flow: Any, row: Any, levels: Any, other: Any, seen: Any) -> None:
    """Write what is seen of a row, the border repeated behind it: seen CxW', zeros where there is no such channel."""
    kinds, width = frames.shape[0], frames.shape[2]
    first = frames[0, row].reshape(-1)
    for x in range(width):
        for channel in range(3):
            seen[channel, x] = np.float32(first[3 * x + channel]) * _LEVELS - _HALF
    _luma(first, levels)
    for k in range(1, kinds):
        _luma(frames[k, row].reshape(-1), other)
        difference = seen[2 + k]
        for x in range(width):
            difference[x] = (other[x] - levels[x]) * _GAIN
    for x in range(width):
        seen[2 + kinds, x] = flow[row, x, 0] * _RANGE
        seen[3 + kinds, x] = flow[row, x, 1] * _RANGE
    for k in range(4 + kinds):
        seen[k, width:] = seen[k, width - 1]
    seen[4 + kinds :] = ZERO


@inlined
def _put_apart(seen: Any, width: Any, pairs: Any, row: Any) -> None:
    """Write a row of maps, its border before it, from channels CxW', C even; by way of `pairs`, 2W numbers.

    Two channels at once: what takes time is that each pixel's lie apart.
    """
    channels = seen.shape[0]
    for k in range(0, channels, 2):
        first, second = seen[k], seen[k + 1]
        for x in range(width):
            pairs[2 * x] = narrowed(first[x], row)
            pairs[2 * x + 1] = narrowed(second[x], row)
        for x in range(width):
            copied(pairs, 2 * x, 2, row, (x + 1) * channels + k)


def see(frames: Any, flow: Any, height: Any, width: Any, maps: Any) -> None:
    """Write maps of height x width pixels, K+4 channels, from frames Kxhxwx3 and flow hxwx2; the border is repeated."""
    channels = maps.shape[2]
    clear_around(maps, height, width)
    bands = min(height, 16)
    for band in prange(bands):
        levels = np.empty(frames.shape[2], np.float32)
        other = np.empty(frames.shape[2], np.float32)
        seen = np.empty((channels, width), np.float32)
        pairs = np.empty(2 * width, maps.dtype)
        for y in range(band * height // bands, (band + 1) * height // bands):
            _see_row(frames, flow, min(y, frames.shape[1] - 1), levels, other, seen)
            _put_apart(seen, width, pairs, maps[y + 1].reshape(-1))


@inlined
def _join_row(
    y: Any, width: Any, small: Any, fine: Any, small_weights: Any, fine_weights: Any, activation: Any, out: Any
) -> None:
    small_channels, fine_channels, outputs = small.shape[2], fine.shape[2], 2 * out.shape[2]
    small_row, fine_row = small.shape[1] * small_channels, fine.shape[1] * fine_channels
    vectors = panel_vectors(outputs)
    lanes, odd = vectors * VECTOR, y % 2
    panels = (outputs + lanes - 1) // lanes
    # The last panel first: what it writes beyond a pixel is the first panel's of the next one.
    for panel in range(panels - 1, -1, -1):
        sum_of_products(
            width // 2, vectors,
            small.reshape(-1), (y // 2 + odd) * small_row, small_channels, 2, small_row, 3 * small_channels,
            small_weights, (odd * panels + panel) * (small_weights.shape[0] // (2 * panels)),
            out.reshape(-1), ((y + 1) * out.shape[1] + 1) * out.shape[2] + panel * lanes, outputs,
            activation, panel * lanes, activation.shape[0] // 2,
            fine.reshape(-1), y * fine_row, 2 * fine_channels, 3, fine_row, 4 * fine_channels,
            fine_weights, panel * (fine_weights.shape[0] // panels),
        )  # fmt: skip


def join(
    small: Any, fine: Any, small_weights: Any, fine_weights: Any, activation: Any, height: Any, width: Any, out: Any
) -> None:
    """Convolve `small`, enlarged by two, and `fine` beside it 3x3: `out` of height x width pixels, even numbers.

    Two neighbours at once see three pixels of two rows of the small map, other ones in even rows and in odd, by sums of
    the weights. Weights are packed (`prepared.Joining`); activation as for `direct`, of both neighbours.
    """
    clear_rows(out, height)
    for y in prange(height):
        row = np.int64(y)
        _join_row(row, width, small, fine, small_weights, fine_weights, activation, out)
        clear_sides(out, row + 1, width)


@inlined
def _share_row(
    logits: Any, added: Any, is_present: Any, is_moving: Any, shares: Any, best: Any, total: Any, moved: Any
) -> None:
    """Write the shares KxW of a row of logits W'xC, K numbers added, and in `moved` those of what moves together."""
    kinds, width = is_present.shape[0], best.shape[0]
    best[:] = logits[0, 0] + added[0] if is_present[0] else -np.inf
    total[:] = ZERO
    moved[:] = ZERO
    for k in range(kinds):
        share = shares[k]
        if is_present[k]:
            for x in range(width):
                share[x] = logits[x, k] + added[k]
                best[x] = max(best[x], share[x])
    for k in range(kinds):
        share = shares[k]
        if is_present[k]:
            for x in range(width):
                power = power_of_e(share[x] - best[x])
                # The product is nothing, or NaN where a logit is no number.
                total[x] += power + share[x] * ZERO
                share[x] = power
        else:
            share[:] = ZERO
    for x in range(width):
        total[x] = ONE / total[x]
    for k in range(kinds):
        share = shares[k]
        for x in range(width):
            share[x] *= total[x]
        if is_moving[k]:
            for x in range(width):
                moved[x] += share[x]


@kernel(f"{F3}, {F1}, uint8[::1], uint8[::1], float32, float32, {F3}, {F2}")
def share(
    logits: Any, added: Any, is_present: Any, is_moving: Any, sharpening: Any, crispness: Any, weights: Any, sums: Any
) -> None:
    """Write what `kernels.mix` weighs by, weights (K+1)xHxW, and the sums HxK of each row's shares.

    logits: maps of HxW pixels, of each of K candidates and the detail; those that are not present have no share.
    added: to the K candidates' logits, one number each.
    sharpening: by how much the detail grows with the share of what is moving. With K+2 weights there is one more before
    the detail: that share, `crispness` times, which the first candidate's is less by.
    """
    kinds, height, width = is_present.shape[0], weights.shape[1], weights.shape[2]
    last = weights.shape[0] - 1
    bands = min(height, 16)
    for band in prange(bands):
        shares = np.empty((kinds, width), np.float32)
        best, total, moved = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            row = logits[y + 1, 1:]
            _share_row(row, added, is_present, is_moving, shares, best, total, moved)
            for k in range(kinds):
                sum_ = ZERO
                for x in range(width):
                    sum_ += shares[k, x]
                sums[y, k] = sum_
                weights[k, y] = shares[k]
            for x in range(width):
                amount = row[x, kinds]
                weights[last, y, x] = min(max(amount, -_DETAIL), _DETAIL) + amount * ZERO + moved[x] * sharpening
            if last > kinds:
                for x in range(width):
                    weights[kinds, y, x] = moved[x] * crispness
                    weights[0, y, x] = shares[0, x] - moved[x] * crispness


@dataclass(frozen=True, slots=True)
class HeadKernels:
    """Loops for maps of one type of numbers; their docstrings are those of the functions they are compiled from."""

    see: Loop
    join: Loop
    direct: Loop
    direct_wide: Loop  #: as `direct`, the answer in float32
    narrow: Loop  #: `direct_narrow`
    narrow_wide: Loop  #: as `narrow`, the answer in float32


@functools.cache
def of(arithmetic: Arithmetic) -> HeadKernels:
    """Return the loops for this arithmetic; load or compile them at first."""
    (number, weights), place = NUMBERS[arithmetic], "int64"
    one, three = f"{weights}[::1]", f"{number}[:,:,::1]"
    convolution = f"{three}, {one}, {F1}, {place}, {place}, {place}"
    wide, narrow_wide = (
        kernel(f"{convolution}, {F3}")(loop) for loop in (convolution_kernels.direct, convolution_kernels.direct_narrow)
    )
    return HeadKernels(
        see=kernel(f"uint8[:,:,:,::1], {F3}, {place}, {place}, {three}")(see),
        join=kernel(f"{three}, {three}, {one}, {one}, {F1}, {place}, {place}, {three}")(join),
        direct=kernel(f"{convolution}, {three}")(convolution_kernels.direct) if arithmetic.half else wide,
        direct_wide=wide,
        narrow=kernel(f"{convolution}, {three}")(convolution_kernels.direct_narrow) if arithmetic.half else narrow_wide,
        narrow_wide=narrow_wide,
    )
