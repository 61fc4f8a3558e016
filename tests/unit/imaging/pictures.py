"""Builds image files, honest and hostile, for the codec's tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """HxWx3 random levels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> Pixels:
    """HxWx3 gradients: what lossy formats can keep."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    """The file Pillow writes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def file_of(pixels: NDArray[Any], format: str, **options: Any) -> bytes:
    """The file Pillow writes of these pixels."""
    return save(Image.fromarray(pixels), format, **options)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Length, name, body, checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG that claims this size, whatever `data` (unpacked) holds; `extra` chunks stand before it."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + extra
        + png_chunk(b"IDAT", zlib.compress(data))
        + png_chunk(b"IEND", b"")
    )


def exif(orientation: int, order: str = ">") -> bytes:
    """An Exif block (TIFF part) that says only this."""
    magic = b"MM\0*" if order == ">" else b"II*\0"
    return magic + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
