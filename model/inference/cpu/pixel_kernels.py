"""uint8 pictures to frames of float32 and back, as compiled loops over rows: a tenth of what torch takes for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import F3, ZERO, sequential_kernel

#: A picture HxWx3, and one that may be a caller's, which nobody may write to.
_PICTURE, _GIVEN = "uint8[:,:,::1]", "Array(uint8, 3, 'C', readonly=True)"
_LEVELS = np.float32(255)
#: In double precision: a product rounded once then equals the exact quotient of every level.
_LEVEL = 1 / 255


@sequential_kernel(f"{_GIVEN}, {F3}, boolean")
def to_frame(picture: Any, frame: Any, bgr: Any) -> None:
    """Write RGB levels HxWx3 as 3xHxW in 0..1, red first or (`bgr`) blue first."""
    for y in range(picture.shape[0]):
        levels = picture[y].reshape(-1)
        red, green, blue = frame[2 if bgr else 0, y], frame[1, y], frame[0 if bgr else 2, y]
        for x in range(picture.shape[1]):
            red[x] = np.float32(levels[3 * x] * _LEVEL)
            green[x] = np.float32(levels[3 * x + 1] * _LEVEL)
            blue[x] = np.float32(levels[3 * x + 2] * _LEVEL)


@sequential_kernel(f"{F3}, {_PICTURE}, boolean")
def to_picture(frame: Any, picture: Any, bgr: Any) -> None:
    """Write 3xHxW in 0..1, red first or (`bgr`) blue first, as RGB levels HxWx3: to the nearest, of two to the even."""
    for y in range(picture.shape[0]):
        levels = picture[y].reshape(-1)
        red, green, blue = frame[2 if bgr else 0, y], frame[1, y], frame[0 if bgr else 2, y]
        for x in range(picture.shape[1]):
            for channel, value in ((0, red[x]), (1, green[x]), (2, blue[x])):
                level = np.rint(value * _LEVELS)
                # This way round NaN becomes 0.
                level = level if level > ZERO else ZERO
                levels[3 * x + channel] = np.uint8(np.int32(min(level, _LEVELS)))
