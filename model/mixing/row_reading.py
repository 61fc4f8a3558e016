"""Reads one row of a picture along a motion: the parts of compiled loops that `refining` and `warping` share.

Places and sums are vectors of a row's pixels; only looking up goes one by one. Pictures are HxW of whole pixels, each
one number: a frame's as four bytes, red the lowest (`warping.packed`), a flow's as both of its float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import ZERO, inlined

_BYTE = np.uint32(255)


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
    """Look up the four pixels around each place of a row, 4xW."""
    flat, height, width = picture.reshape(-1), picture.shape[0], picture.shape[1]
    right, below = np.uint64(width > 1), np.uint64(width if height > 1 else 0)
    upper_left, upper_right, lower_left, lower_right = pixels[0], pixels[1], pixels[2], pixels[3]
    for x in range(pixels.shape[1]):
        corner = np.uint64(corners[x])
        upper_left[x], upper_right[x] = flat[corner], flat[corner + right]
        lower_left[x], lower_right[x] = flat[corner + below], flat[corner + below + right]


@inlined
def blend_colour(pixels: Any, shift: Any, across: Any, down: Any, levels: Any) -> None:
    """Write a row of one colour, the bytes at `shift` of the four pixels around each place, bilinear."""
    a, b, c, d = pixels[0], pixels[1], pixels[2], pixels[3]
    for x in range(levels.shape[0]):
        upper, lower = np.float32((a[x] >> shift) & _BYTE), np.float32((c[x] >> shift) & _BYTE)
        upper += across[x] * (np.float32((b[x] >> shift) & _BYTE) - upper)
        lower += across[x] * (np.float32((d[x] >> shift) & _BYTE) - lower)
        levels[x] = upper + down[x] * (lower - upper)
