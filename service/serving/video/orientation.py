"""Turns and mirrors pictures as a container's display matrix says: how the camera was held."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.serving.video.clip import VideoError

#: Of the larger entry: what rounding may leave of one that should be 0.
_ROUNDING = 0.02


@dataclass(frozen=True, slots=True)
class Orientation:
    """Swaps the sides first, then mirrors: together the eight ways to lay a picture on its sides."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> Orientation:
        """Read nine native int32, row by row (ISO/IEC 14496-12, 8.2.2). Raises VideoError for no quarter turn."""
        a, b, _, c, d = struct.unpack_from("5i", matrix)
        straight, crosswise = max(abs(a), abs(d)), max(abs(b), abs(c))
        if min(straight, crosswise) > _ROUNDING * max(straight, crosswise):
            raise VideoError("the clip is shown at an angle; turn it first: ffmpeg -i in.mp4 turned.mp4")
        if straight >= crosswise:
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def applied(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return HxWx3 as it is to be shown."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.left_right:
            pixels = pixels[:, ::-1]
        if self.up_down:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)
