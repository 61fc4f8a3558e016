"""Reads one row of a frame or a flow along a motion: the parts of compiled loops that `refining` and `warping` share.

Places and sums are vectors of a row's pixels; only looking up goes one by one. A frame is read eight bytes at a time,
which are two neighbouring pixels and two bytes more (`words`). Needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.inference.cpu.compiler import ZERO, inlined
from model.motion.field import Pixels

#: The type of `words` in loops' signatures.
WORDS = "Array(uint64, 1, 'A', readonly=True, aligned=False)"
_BYTE, _WORD = np.uint32(255), 8


def words(frame: Pixels) -> NDArray[np.uint64]:
    """Return the eight bytes from each byte of a frame HxWx3 on, as one number, the first the lowest: a view.

    A copy of frames of one row or column, or of fewer bytes than that: theirs have zeros behind them.
    """
    flat = np.ascontiguousarray(frame).reshape(-1)
    if 1 in frame.shape[:2] or len(flat) <= _WORD:
        flat = np.concatenate((flat, np.zeros(_WORD, np.uint8)))
    view = np.ndarray((len(flat) - _WORD + 1,), "<u8", flat.data, strides=(1,))
    view.flags.writeable = False
    return view


@inlined
def find_places(y: Any, flow_x: Any, flow_y: Any, height: Any, width: Any, across: Any, down: Any) -> None:
    """Write where row y is read, W each: held within the picture; NaN is 0."""
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    for x in range(across.shape[0]):
        # Comparisons this way round send NaN to 0.
        place, line = np.float32(x) + flow_x[x], np.float32(y) + flow_y[x]
        place, line = place if place > ZERO else ZERO, line if line > ZERO else ZERO
        across[x], down[x] = min(place, right), min(line, bottom)


@inlined
def find_corners(height: Any, width: Any, across: Any, down: Any, corners: Any) -> None:
    """Write the first of the four pixels around each place of a row, W; of the place is left how far it is beyond that.

    In the last column and row that is one pixel, from the ones before: so the others lie at equal steps everywhere.
    """
    last_column, last_row = np.int32(max(width - 2, 0)), np.int32(max(height - 2, 0))
    for x in range(across.shape[0]):
        column, top = min(np.int32(across[x]), last_column), min(np.int32(down[x]), last_row)
        across[x] -= np.float32(column)
        down[x] -= np.float32(top)
        corners[x] = np.uint32(top * np.int32(width) + column)


@inlined
def look_up(picture: Any, corners: Any, pixels: Any) -> None:
    """Look up the four numbers of HxW around each place of a row, 4xW."""
    flat, height, width = picture.reshape(-1), picture.shape[0], picture.shape[1]
    right, below = np.uint64(width > 1), np.uint64(width if height > 1 else 0)
    upper_left, upper_right, lower_left, lower_right = pixels[0], pixels[1], pixels[2], pixels[3]
    for x in range(pixels.shape[1]):
        corner = np.uint64(corners[x])
        upper_left[x], upper_right[x] = flat[corner], flat[corner + right]
        lower_left[x], lower_right[x] = flat[corner + below], flat[corner + below + right]


@inlined
def look_up_pixels(frame: Any, height: Any, width: Any, corners: Any, pairs: Any) -> None:
    """Look up the four pixels around each place of a row of `words`: the upper two and the lower two, 2xW."""
    last, below = np.int64(frame.shape[0] - 1), np.int64(3 * width if height > 1 else 0)
    upper, lower = pairs[0], pairs[1]
    for x in range(pairs.shape[1]):
        first = 3 * np.int64(corners[x])
        second = first + below
        upper[x] = frame[first]
        # What begins behind the last word is the end of that.
        start = min(second, last)
        lower[x] = frame[start] >> np.uint64(8 * (second - start))


@inlined
def _blend(halves: Any, left: Any, word: Any, right: Any, across: Any, down: Any, levels: Any) -> None:
    """Write a row of one colour, bilinear. Its byte of left pixels is the `left`-th of a pair's eight.

    That of right pixels is the `right`-th of the `word`-th four; `halves` 2x2W.
    """
    upper_row, lower_row, left_shift, right_shift = halves[0], halves[1], np.uint32(8 * left), np.uint32(8 * right)
    for x in range(levels.shape[0]):
        upper = np.float32((upper_row[2 * x] >> left_shift) & _BYTE)
        lower = np.float32((lower_row[2 * x] >> left_shift) & _BYTE)
        upper += across[x] * (np.float32((upper_row[2 * x + word] >> right_shift) & _BYTE) - upper)
        lower += across[x] * (np.float32((lower_row[2 * x + word] >> right_shift) & _BYTE) - lower)
        levels[x] = upper + down[x] * (lower - upper)


@inlined
def blend_colours(pairs: Any, across: Any, down: Any, red: Any, green: Any, blue: Any) -> None:
    """Write a row of each colour from the four pixels around each place, bilinear."""
    halves = pairs.view(np.uint32)
    _blend(halves, 0, 0, 3, across, down, red)
    _blend(halves, 1, 1, 0, across, down, green)
    _blend(halves, 2, 1, 1, across, down, blue)
