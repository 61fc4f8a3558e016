"""Finds the parts of a pair of frames in which anything changes, by tiles: of a still camera's, a letterboxed film's.

What lies outside them is the same in both frames, byte for byte. Frames are HxWx3 uint8. Needs numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.inference.cpu.compiler import kernel, prange
from model.motion.field import Pixels

#: Sides of a tile, pixels: a multiple of a head's stride and of what frames are reduced by.
TILE = 16
#: Tiles that are taken with those that change, on every side: the motion in them is found by what stands around it.
AROUND = 2
#: Shortest sides of a part, tiles (of a frame that has as many): motion of some pixels is found on several sizes.
LEAST_TILES = 6
#: Most of a frame, by area, that its parts may make up: beyond, predicting them apart gains too little.
MOST_AREA = 0.6
#: Frames that may not be written to, as rows of bytes.
_ROWS = "Array(uint8, 2, 'C', readonly=True)"


class Box(NamedTuple):
    """A part of a frame, pixels; ends are not in it."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return this part of `frame` HxWx..: a view."""
        return frame[self.top : self.bottom, self.left : self.right]

    @property
    def area(self) -> int:
        """Return its pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


@kernel(f"{_ROWS}, {_ROWS}, int64, int64, uint8[:,::1]")
def _mark(previous: Any, current: Any, width: Any, every: Any, changed: Any) -> None:
    """Set changed[i, j] to 1 where a tile, `width` bytes wide, differs in one of its rows 0, every, 2 every ..."""
    for i in prange(changed.shape[0]):
        for y in range(i * TILE, min((i + 1) * TILE, previous.shape[0]), every):
            for j in range(changed.shape[1]):
                first, second = previous[y, j * width : (j + 1) * width], current[y, j * width : (j + 1) * width]
                differs = np.uint8(0)
                for x in range(first.shape[0]):
                    differs |= first[x] ^ second[x]
                if differs:
                    changed[i, j] = 1


def boxes(previous: Pixels, current: Pixels) -> list[Box] | None:
    """Find the parts of two frames of one size that are to be predicted; the rest is equal. None: the whole frame is.

    Parts do not overlap, and lie on the grid of tiles. Where a sample of rows shows that most has changed, no more is
    looked at.
    """
    height, width = current.shape[:2]
    changed = np.zeros((-(-height // TILE), -(-width // TILE)), np.uint8)
    first, second = previous.reshape(height, -1), current.reshape(height, -1)
    for every in (TILE, 1):
        _mark(first, second, 3 * TILE, every, changed)
        if changed.mean() > MOST_AREA:
            return None
    side = 2 * AROUND + 1
    changed = np.asarray(cv2.dilate(changed, np.ones((side, side), np.uint8)), np.uint8)
    count, _, tiles, _ = cv2.connectedComponentsWithStats(changed, connectivity=8)
    rows, columns = changed.shape
    parts = _apart(
        [
            _box(_widened(top, top + high, rows), _widened(left, left + wide, columns), height, width)
            for left, top, wide, high, _ in tiles[1:count].tolist()
        ]
    )
    return parts if sum(part.area for part in parts) <= MOST_AREA * height * width else None


def _widened(start: int, end: int, count: int) -> tuple[int, int]:
    """Widen start..end to LEAST_TILES, within 0..count."""
    missing = max(0, LEAST_TILES - (end - start))
    start = max(0, start - missing // 2)
    end = min(count, max(end, start + LEAST_TILES))
    return max(0, min(start, end - LEAST_TILES)), end


def _box(rows: tuple[int, int], columns: tuple[int, int], height: int, width: int) -> Box:
    """Return rows and columns of tiles as a part of a frame of height x width."""
    (top, bottom), (left, right) = rows, columns
    return Box(top * TILE, left * TILE, min(bottom * TILE, height), min(right * TILE, width))


def _apart(parts: list[Box]) -> list[Box]:
    """Join parts that overlap until none do."""
    separate: list[Box] = []
    for part in parts:
        touching = [other for other in separate if _overlap(part, other)]
        while touching:
            separate = [other for other in separate if other not in touching]
            for other in touching:
                part = Box(*map(min, part[:2], other[:2]), *map(max, part[2:], other[2:]))
            touching = [other for other in separate if _overlap(part, other)]
        separate.append(part)
    return separate


def _overlap(one: Box, other: Box) -> bool:
    rows = one.top < other.bottom and other.top < one.bottom
    return rows and one.left < other.right and other.left < one.right
