"""Pictures as callers have them (arrays, Pillow images, files, bytes) and as they travel."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: HxWx3 uint8 RGB (or HxW grey), a Pillow image, an image file's bytes, or the path of one.
Picture = NDArray[np.uint8] | Image.Image | bytes | bytearray | memoryview | str | os.PathLike[str]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame of a live stream with what belongs to it; a bare picture will do where nothing does.

    `id` comes back with the answer (else the frame's number); from `time_us`, when it is shown, predicted frames get
    theirs. `jump`: the camera jumped, do not predict from the frame before.
    """

    picture: Picture
    id: str | None = None
    time_us: int | None = None
    jump: bool = False


def to_bytes(picture: Picture) -> bytes:
    """An image file's bytes: files and bytes as they are, pixels as PNG at its fastest level.

    TypeError and ValueError say what is wrong with an array; OSError, that a path cannot be read.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(_checked(picture))
    file = io.BytesIO()
    (image if image.mode in ("RGB", "L") else image.convert("RGB")).save(file, "PNG", compress_level=1)
    return file.getvalue()


def to_pixels(data: bytes) -> Pixels:
    """HxWx3 uint8 RGB of an image file's bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def raw(picture: Picture) -> Pixels | None:
    """The picture's pixels where it has them already and a raw transport can send them as they are."""
    if isinstance(picture, Image.Image):
        return np.array(picture.convert("RGB"))
    if isinstance(picture, np.ndarray):
        pixels = _checked(picture)
        return np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels)
    return None


def _checked(pixels: NDArray[Any]) -> Pixels:
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"a picture is an array, a Pillow image, bytes or a path, not {type(pixels).__name__}")
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"pixels must be uint8, 0 to 255, not {pixels.dtype}; for 0..1: (x * 255).round().astype('uint8')"
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
        raise ValueError(f"pixels must be HxWx3 (RGB) or HxW (grey), not {'x'.join(map(str, pixels.shape))}")
    return pixels
