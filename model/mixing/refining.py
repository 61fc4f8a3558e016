"""The passes over memory that end a prediction at a part of the size, as compiled loops.

All read a frame along a motion (`row_reading`). At half the size one pass does everything from the candidates to the
whole frame (`answer`), so that what lies in between stays in the cache; at a quarter maps are enlarged between two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import F1, F2, F3, ZERO, inlined, kernel, prange
from model.mixing.kernels import PIXELS, enlarge_between, enlarge_row, level_part, mix_row, rows_around
from model.mixing.row_reading import WORDS, blend_colours, find_corners, find_places, look_up_pixels

#: The whole frame's fine part is multiplied by this at most: a head that sharpens does so at the smaller size already.
MOST_GAIN = np.float32(1.5)
_HALF, _WHITE = np.float32(0.5), np.float32(255)
_LEAST = np.float32(1e-6)
#: Places are told in parts of a pixel so fine.
_FINE = np.float32(32)


@inlined
def _part_row(
    frame: Any, y: Any, flow: Any, other_flow: Any, shares: Any, factor: Any, corners: Any, pairs: Any, parts: Any,
    mixture: Any, maps: Any,
) -> Any:  # fmt: skip
    """Write row y of the maps, 6xW, and return its sum. `shares` 4xW; `mixture` 3xW levels in 0..1."""
    flow_x, flow_y, gain = maps[0], maps[1], maps[2]
    height, width = flow.shape[0], flow.shape[1]
    for x in range(width):
        along_flow, along_other, still = shares[0, x], shares[1, x], shares[2, x]
        moving = along_flow + along_other
        total = max(moving + still, _LEAST)
        to_flow, to_other = along_flow / total, along_other / total
        flow_x[x] = flow[y, x, 0] * to_flow + other_flow[y, x, 0] * to_other
        flow_y[x] = flow[y, x, 1] * to_flow + other_flow[y, x, 1] * to_other
        gain[x] = min(max(max(moving, still) + shares[3, x], ZERO), MOST_GAIN)
    across, down = parts[0], parts[1]
    find_places(y, flow_x, flow_y, height, width, across, down)
    find_corners(height, width, across, down, corners)
    look_up_pixels(frame, height, width, corners, pairs)
    blend_colours(pairs, across, down, maps[3], maps[4], maps[5])
    for channel in range(3):
        rest, levels = maps[3 + channel], mixture[channel]
        for x in range(width):
            rest[x] = levels[x] * _WHITE - gain[x] * rest[x]
    total = ZERO
    for x in range(width):
        flow_x[x] *= factor
        flow_y[x] *= factor
        # Of the levels each is multiplied by the gain, so that this is no number where one of them is none.
        total += flow_x[x] + flow_y[x] + maps[3, x] + maps[4, x] + maps[5, x]
    return total


@inlined
def _enlarge_needed(shares: Any, needed: Any, y: Any, low: Any, wide: Any) -> None:
    """Write row y of the shares that are `needed`, enlarged, 4x2w; zeros where there are none."""
    for k in range(4):
        if needed[k] < 0:
            wide[k] = ZERO
        else:
            enlarge_row(shares[needed[k]], y, low, wide[k])


@kernel(f"{WORDS}, {F3}, {F3}, {F3}, int64[::1], {F3}, float32, {F3}, {F1}")
def part(
    frame: Any, flow: Any, other_flow: Any, shares: Any, needed: Any, mixture: Any, factor: Any, maps: Any, sums: Any
) -> None:
    """Write maps 6xHxW from what was predicted at a part of the size, as `refine` takes them; and each row's sum, H.

    `frame`: the `words` of the smaller one. Flows HxWx2 lead to it, in its pixels, `factor` of the whole frame's.
    `shares` hxw each, at half of its size; `needed`: which of them are those of both flows' candidates and of no motion
    (below 0: there are none), and how much detail is added. `mixture` HxWx3 in 0..1.
    """
    height, width = flow.shape[0], flow.shape[1]
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(shares.shape[2], np.float32)
        wide = np.empty((4, 2 * shares.shape[2]), np.float32)
        corners, pairs = np.empty(width, np.uint32), np.empty((2, width), np.uint64)
        parts, levels = np.empty((2, width), np.float32), np.empty((3, width), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            row = np.int64(y)
            _enlarge_needed(shares, needed, row, low, wide)
            for channel in range(3):
                for x in range(width):
                    levels[channel, x] = mixture[y, x, channel]
            sums[y] = _part_row(frame, row, flow, other_flow, wide, factor, corners, pairs, parts, levels, maps[:, y])


@inlined
def _refine_row(
    frame: Any, y: Any, height: Any, wide: Any, corners: Any, pairs: Any, parts: Any, levels: Any, row: Any
) -> None:
    """Write a row of 3W colours from maps 6xW' of its size."""
    width = levels.shape[1]
    across, down = parts[0], parts[1]
    find_places(y, wide[0], wide[1], height, width, across, down)
    for x in range(width):
        # Halves are rounded up. The sums of such parts and of whole levels are exact.
        across[x] = np.float32(np.int32(across[x] * _FINE + _HALF)) / _FINE
        down[x] = np.float32(np.int32(down[x] * _FINE + _HALF)) / _FINE
    find_corners(height, width, across, down, corners)
    look_up_pixels(frame, height, width, corners, pairs)
    blend_colours(pairs, across, down, levels[0], levels[1], levels[2])
    for channel in range(3):
        colour = levels[channel]
        for x in range(width):
            value = wide[2, x] * np.float32(np.int32(colour[x] + _HALF)) + wide[3 + channel, x]
            colour[x] = min(max(value, ZERO), _WHITE) + _HALF
    red, green, blue = levels[0], levels[1], levels[2]
    for x in range(width):
        row[3 * x], row[3 * x + 1], row[3 * x + 2] = np.uint8(red[x]), np.uint8(green[x]), np.uint8(blue[x])


@kernel(f"{F3}, {WORDS}, uint8[:,:,::1]")
def refine(maps: Any, frame: Any, out: Any) -> None:
    """Read the whole frame HxW along maps[:2], multiply it by maps[2] and add maps[3:], levels -> out HxWx3.

    maps 6xhxw, as `part` writes them, are enlarged by two; h, w: at least half of H and W, rounded up. `frame`: as for
    `part`. It is read as OpenCV reads frames: places in parts of 1/32 of a pixel, and rounded levels.
    """
    height, width = out.shape[0], out.shape[1]
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(maps.shape[2], np.float32)
        wide = np.empty((6, 2 * maps.shape[2]), np.float32)
        corners, pairs = np.empty(width, np.uint32), np.empty((2, width), np.uint64)
        parts = np.empty((2, width), np.float32)
        levels = np.empty((3, width), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            for k in range(6):
                enlarge_row(maps[k], y, low, wide[k])
            _refine_row(frame, np.int64(y), height, wide, corners, pairs, parts, levels, out[y].reshape(-1))


@inlined
def _guess(levels: Any, y: Any, every: Any, guesses: Any) -> None:
    """Keep a row's levels at the middle of every `every` rows and columns, if y is one of those rows."""
    first = every // 2
    if y % every == first:
        for number in range(guesses.shape[1]):
            guesses[y // every, number] = levels[first + number * every]


@kernel(f"{PIXELS}, int64, {F3}, {WORDS}, {F3}, {F3}, int64[::1], float32, {WORDS}, uint8[:,:,::1], {F1}, int64, {F2}")
def answer(
    candidates: Any, soft: Any, shares: Any, small: Any, flow: Any, other_flow: Any, needed: Any, factor: Any,
    frame: Any, out: Any, sums: Any, every: Any, guesses: Any,
) -> None:  # fmt: skip
    """Write `out` as `kernels.mix`, `part` and `refine` would one after the other, row by row.

    `candidates` Khxwx3, as large as half of `out` HxWx3; `small`, `frame`: the `words` of the current frame, of that
    size and whole. `sums` h: as `part`'s. `guesses`: of the mixture's green, in 0..1, the middle of every `every` rows
    and columns.
    """
    height, width, rows, columns = out.shape[0], out.shape[1], flow.shape[0], flow.shape[1]
    bands = min(height, 16)
    for band in prange(bands):
        share_low, shares_wide = np.empty(shares.shape[2], np.float32), np.empty((4, 2 * shares.shape[2]), np.float32)
        weight, mixture = np.empty(2 * shares.shape[2], np.float32), np.empty((3, columns), np.float32)
        # The last two rows of the maps: of the smaller frame no more is needed for one of the whole.
        maps = np.empty((2, 6, columns), np.float32)
        small_corners, small_pairs = np.empty(columns, np.uint32), np.empty((2, columns), np.uint64)
        small_parts = np.empty((2, columns), np.float32)
        low, wide = np.empty(columns, np.float32), np.empty((6, 2 * columns), np.float32)
        corners, pairs = np.empty(width, np.uint32), np.empty((2, width), np.uint64)
        parts, levels = np.empty((2, width), np.float32), np.empty((3, width), np.float32)
        first: Any = np.int64(band * height // bands)
        written = max((first + 1) // 2 - 1, 0) - 1
        for y in range(first, np.int64((band + 1) * height // bands)):
            above, below = rows_around(y, rows)
            while written < below:
                written += 1
                mix_row(candidates, written, soft, shares, share_low, weight, mixture)
                for channel in range(3):
                    for x in range(columns):
                        mixture[channel, x] = level_part(mixture[channel, x])
                _guess(mixture[1], written, every, guesses)
                _enlarge_needed(shares, needed, written, share_low, shares_wide)
                sums[written] = _part_row(
                    small, written, flow, other_flow, shares_wide, factor,
                    small_corners, small_pairs, small_parts, mixture, maps[written % 2],
                )  # fmt: skip
            for k in range(6):
                enlarge_between(maps[above % 2, k], maps[below % 2, k], y, low, wide[k])
            _refine_row(frame, y, height, wide, corners, pairs, parts, levels, out[y].reshape(-1))
