"""What both paths of a block begin with, as compiled loops: its input is warped and convolved while it lies in cache.

A few rows at a time; the whole input would be most of what a block reads and writes. Maps are as in
`model.inference.cpu.convolution_kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import inlined, prange
from model.inference.cpu.convolution_kernels import beside_row, clear, clear_around, clear_rows, clear_sides, narrow_row
from model.inference.cpu.frame_kernels import copy_row, reduce_row, see_row


@inlined
def _see(first: Any, after: Any, origin: Any, state: Any, bias: Any, gather: Any, rows: Any) -> None:
    """Write rows `first` to before `after` of what a block sees, with its border; rows[0] is row `origin` of it."""
    for row in range(first, after):
        place = row - origin
        if 1 <= row <= gather.shape[1]:
            see_row(row - 1, place, state, bias, gather, rows)
            clear_sides(rows, place, gather.shape[2])
        else:
            clear(rows, place, 0, rows.shape[1])


@inlined
def _window(
    chunk: Any, start: Any, height: Any, state: Any, bias: Any, gather: Any, maps: Any, warps: Any, room: Any
) -> Any:
    """Return the first of a chunk's rows of outputs, of `height` in all, how many it has, and the rows that they see.

    Those are a part of `maps`, or, where it `warps`, written to `room`, which holds the chunk before, but for the
    chunk `start`.
    """
    most = (room.shape[0] - 1) // 2
    first = chunk * most
    count = min(most, height - first)
    if not warps:
        return first, count, maps[2 * first :]
    origin, begun = 2 * first, 2 * first
    if chunk > start:
        copy_row(room, room.shape[0] - 1, room, 0)
        begun += 1
    _see(begun, origin + 2 * count + 1, origin, state, bias, gather, room)
    return first, count, room[0:]


@inlined
def _chunks(band: Any, bands: Any, height: Any, most: Any) -> Any:
    """Return the range of a band's chunks, `most` rows of outputs each."""
    chunks = (height + most - 1) // most
    return np.int64(band * chunks // bands), np.int64((band + 1) * chunks // bands)


def begin(
    state: Any, bias: Any, gather: Any, maps: Any, warps: Any, room: Any,
    weights: Any, activation: Any, height: Any, width: Any, out: Any, scale: Any, small: Any,
) -> None:  # fmt: skip
    """Convolve what a block sees 3x3, stride 2, to `out` of height x width pixels and 8 channels, and reduce it.

    It sees `maps` of 2h x 2w pixels, or, where it `warps`, both frames (gather 2x2hx2wx4) along flow and mask (state
    2h x (2w+3) x 6, bias 6 still to be added): previous, current, both warped, mask, flow; in bfloat16 also what mask
    and flow lack there. weights, activation: as for `direct_narrow`. small: maps of what is seen, 2h x 2w pixels by
    `scale`: the mean of the central 2x2 of each square (bilinear), of 1 a copy. room: for each band of rows that
    threads share 2n+1 rows of what is seen; n rows of outputs are made at a time, a multiple of `scale`.
    """
    most, bands = (room.shape[1] - 1) // 2, room.shape[0]
    low_height, low_width = 2 * height // scale, 2 * width // scale
    clear_rows(out, height)
    clear_around(small, low_height, low_width)
    for band in prange(bands):
        start, end = _chunks(band, bands, height, most)
        for chunk in range(start, end):
            first, count, rows = _window(chunk, start, height, state, bias, gather, maps, warps, room[band])
            for y in range(count):
                narrow_row(y, width, rows, weights, activation, 2, out[first:])
                clear_sides(out, first + y + 1, width)
            for y in range(2 * count // scale):
                reduce_row(y, rows, scale, low_width, small[2 * first // scale :])


def begin_beside(
    state: Any, bias: Any, gather: Any, maps: Any, warps: Any, room: Any,
    weights: Any, activation: Any, height: Any, width: Any, out: Any, second: Any,
) -> None:  # fmt: skip
    """Convolve what a block sees, as `begin` has it, to both `out` and `second`, h x w pixels each.

    The last 8 of the weights' outputs are not of `out`, but of `second`.
    """
    most, bands = (room.shape[1] - 1) // 2, room.shape[0]
    clear_rows(out, height)
    clear_rows(second, height)
    for band in prange(bands):
        start, end = _chunks(band, bands, height, most)
        for chunk in range(start, end):
            first, count, rows = _window(chunk, start, height, state, bias, gather, maps, warps, room[band])
            for y in range(count):
                beside_row(y, width, rows, weights, activation, 2, out[first:], second[first:])
                clear_sides(out, first + y + 1, width)
                clear_sides(second, first + y + 1, width)
