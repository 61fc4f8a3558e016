"""Finds the parts of a pair of frames in which anything changes, by tiles: of a still camera's, a letterboxed film's.

What lies outside them is the same in both frames, byte for byte. Frames are HxWx3 uint8. Needs numba.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.inference.cpu.compiler import kernel, prange
from model.mixing.kernel_turn import kernel_turn
from model.motion.field import Pixels

#: Sides of a tile, pixels: a head's stride.
TILE = 8
#: Tiles that are taken with those that change, on every side, where motion is found at this part of the size: the
#: smaller, the further around what moves it is found, too.
AROUND = {1.0: 4, 0.5: 8, 0.25: 12}
#: Tiles on every side of what changes that are mixed; beyond, frames are only looked at for their motion.
AROUND_CORE = {1.0: 2, 0.5: 4, 0.25: 4}
#: Shortest sides of what is mixed, tiles.
LEAST_CORE = 6
#: Shortest sides of a part, tiles (of a frame that has as many): motion of some pixels is found on several sizes.
LEAST_TILES = 12
#: Parts' sides are multiples of so many tiles where there is room: every new size takes some milliseconds more.
STEP = 2
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

    def within(self, other: Box) -> Box:
        """Return this part of a part of a frame as a part of the frame."""
        return Box(self.top + other.top, self.left + other.left, self.bottom + other.top, self.right + other.left)

    def slices(self, scale: float) -> tuple[slice, slice]:
        """Return its rows and columns in a frame of `scale` times the size."""
        rows = slice(round(self.top * scale), math.ceil(self.bottom * scale))
        return rows, slice(round(self.left * scale), math.ceil(self.right * scale))


@kernel(f"{_ROWS}, {_ROWS}, int64, int64, uint8[:,::1]")
def _mark(previous: Any, current: Any, width: Any, every: Any, tiles: Any) -> None:
    """Set tiles[i, j] to 1 where a tile, `width` bytes wide, differs in one of its rows 0, every, 2 every ..."""
    for i in prange(tiles.shape[0]):
        for y in range(i * TILE, min((i + 1) * TILE, previous.shape[0]), every):
            for j in range(tiles.shape[1]):
                if tiles[i, j]:
                    continue
                first, second = previous[y, j * width : (j + 1) * width], current[y, j * width : (j + 1) * width]
                differs = np.uint8(0)
                for x in range(first.shape[0]):
                    differs |= first[x] ^ second[x]
                if differs:
                    tiles[i, j] = 1


def boxes(previous: Pixels, current: Pixels, scale: float = 1.0) -> list[Box] | None:
    """Find the parts of two frames of one size that are to be predicted; the rest is equal. None: the whole frame is.

    Parts do not overlap, and lie on the grid of tiles. `scale`: the part of the size at which motion will be found.
    Where a sample of rows shows that most has changed, no more is looked at.
    """
    height, width = current.shape[:2]
    for every in (TILE, 1):
        tiles = _changed(previous, current, every)
        if tiles.mean() > MOST_AREA:
            return None
    side = 2 * AROUND[scale] + 1
    tiles = np.asarray(cv2.dilate(tiles, np.ones((side, side), np.uint8)), np.uint8)
    count, _, components, _ = cv2.connectedComponentsWithStats(tiles, connectivity=8)
    rows, columns = tiles.shape
    parts = _apart(
        [
            _box(
                _widened(top, top + high, rows, LEAST_TILES),
                _widened(start, start + wide, columns, LEAST_TILES),
                height,
                width,
            )
            for start, top, wide, high, _ in components[1:count].tolist()
        ]
    )
    return parts if sum(part.area for part in parts) <= MOST_AREA * height * width else None


def core(previous: Pixels, current: Pixels, scale: float = 1.0) -> Box:
    """Find what is to be mixed of a part of two frames, in which something changes; motion is found on all of it.

    Both frames as contiguous arrays; `scale` as for `boxes`. What a head softens needlessly becomes less, too.
    """
    height, width = current.shape[:2]
    tiles, margin = _changed(previous, current, 1), AROUND_CORE[scale]
    rows, columns = (
        _widened(max(0, int(places[0]) - margin), min(count, int(places[-1]) + 1 + margin), count, LEAST_CORE)
        for places, count in zip((np.flatnonzero(tiles.any(axis)) for axis in (1, 0)), tiles.shape, strict=True)
    )
    return _box(rows, columns, height, width)


def _changed(previous: Pixels, current: Pixels, every: int) -> NDArray[np.uint8]:
    """Mark the tiles of two frames that differ in one of their rows 0, every, 2 every ... by 1, others by 0."""
    height, width = current.shape[:2]
    tiles = np.zeros((-(-height // TILE), -(-width // TILE)), np.uint8)
    with kernel_turn(1):  # waking another takes longer
        _mark(previous.reshape(height, -1), current.reshape(height, -1), 3 * TILE, every, tiles)
    return tiles


def _widened(start: int, end: int, count: int, least: int) -> tuple[int, int]:
    """Widen start..end to `least` tiles, and to a multiple of STEP, within 0..count."""
    length = -(-max(least, end - start) // STEP) * STEP
    start = max(0, min(start - (length - (end - start)) // 2, count - length))
    return start, min(count, start + length)


def _box(rows: tuple[int, int], columns: tuple[int, int], height: int, width: int) -> Box:
    """Return rows and columns of tiles as a part of a frame of height x width."""
    return Box(rows[0] * TILE, columns[0] * TILE, min(rows[1] * TILE, height), min(columns[1] * TILE, width))


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
