"""Image bytes to frames and back. Knows no transport, thread or metric.

What comes in, and what is made of it:

* PNG, JPEG, WebP, BMP, PPM (P6) and PGM (P5), told apart by their bytes, never by a name or a media type.
* The header is checked first (`service.imaging.image_header`, `FrameLimits`): what is too large, too narrow, animated,
  or of a kind that is refused is refused before any pixel is decoded or has its memory. Only real transparency, and
  modes that no header tells, show when the pixels are there.
* Grey, 1-bit and palette pictures become RGB. 16-bit ones keep their high byte.
* Alpha that is opaque everywhere is dropped. Real transparency is refused: what would show through is not in the file.
* CMYK is refused: without its profile the colours mean nothing.
* Exif's orientation is applied. Colour profiles and gamma are ignored: numbers are taken as sRGB, as the network was
  trained; only what PNG marks as HDR (PQ, HLG) is refused. Several pictures in one JPEG (MPO): the first counts.
* A JPEG with damaged data inside may decode with wrong blocks: libjpeg repairs it silently, nothing here can tell.

What goes out has RGB, 8 bits, no metadata.
"""

from __future__ import annotations

import enum
import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from service.core.errors import InvalidFrame, InvalidRequest, NotAcceptable, TooLarge
from service.core.types import Frame
from service.imaging import image_header
from service.imaging.image_header import ImageHeader, Kind

# The decoders are imported above so that Pillow need not load its sixty others on the first request.
_DECODERS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
# Ours is checked before Pillow sees the file, is stricter, and is an error; Pillow's is a warning from a thread.
Image.MAX_IMAGE_PIXELS = None

Pixels = NDArray[np.uint8]

#: ISA-L has levels 0 to 3; 2 is as quick as 1 and a little smaller.
DEFLATE_LEVEL = 2
#: JPEG quality where the caller gives none: hard to tell from the original.
JPEG_QUALITY = 95
#: The longest side a format can hold.
LONGEST = {"jpeg": 65_500, "webp": 16_383}


class ImageFormat(enum.StrEnum):
    """What frames are answered as."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    PPM = "ppm"
    RAW = "raw"  #: HxWx3 bytes, RGB, no header

    @property
    def media_type(self) -> str:
        """Return the name used in Accept and Content-Type."""
        return _MEDIA_TYPES[self]

    @property
    def lossy(self) -> bool:
        """Tell whether a quality means anything (WebP: without one it is lossless)."""
        return self in (ImageFormat.JPEG, ImageFormat.WEBP)


_MEDIA_TYPES = {
    ImageFormat.PNG: "image/png",
    ImageFormat.JPEG: "image/jpeg",
    ImageFormat.WEBP: "image/webp",
    ImageFormat.PPM: "image/x-portable-pixmap",
    ImageFormat.RAW: "application/octet-stream",
}


class LimitSettings(Protocol):
    """The fields of `service.settings.Settings` that bound a frame."""

    @property
    def max_body_bytes(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def min_side(self) -> int: ...
    @property
    def max_side(self) -> int: ...
    @property
    def max_aspect(self) -> float: ...


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What a frame may be: file bytes, pixels, sides in pixels, longer side over shorter."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 4096 * 2304
    min_side: int = 16
    max_side: int = 8192
    max_aspect: float = 16.0

    @classmethod
    def of(cls, settings: LimitSettings) -> FrameLimits:
        """Read the limits from settings."""
        return cls(
            max_bytes=settings.max_body_bytes,
            max_pixels=settings.max_pixels,
            min_side=settings.min_side,
            max_side=settings.max_side,
            max_aspect=settings.max_aspect,
        )

    def check(self, width: int, height: int, field: str, name: str | None = None) -> None:
        """Raise TooLarge or InvalidFrame for `field` beyond the limits. The message states the limit.

        `name`: what the message calls the picture, where its field is no name for it.
        """
        short, long = sorted((width, height))
        size = f"{name or field} is {width}x{height}"
        if short < self.min_side:
            raise InvalidFrame(f"{size}; the shorter side must be at least {self.min_side} pixels", field=field)
        if long > self.max_side:
            raise TooLarge(f"{size}; the longer side may be at most {self.max_side} pixels", field=field)
        if width * height > self.max_pixels:
            ratio = math.sqrt(self.max_pixels / (width * height))
            fitting = f"{int(width * ratio)}x{int(height * ratio)}"
            raise TooLarge(f"{size}; a frame may have at most {self.max_pixels} pixels, such as {fitting}", field=field)
        if long > short * self.max_aspect:
            raise InvalidFrame(f"{size}; one side may be at most {self.max_aspect:g} times the other", field=field)


def decode(
    data: bytes | memoryview, limits: FrameLimits, field: str, reserve: Callable[[int], None] | None = None
) -> Frame:
    """Decode the picture in `data`, upright, RGB. Safe in any number of threads.

    InvalidFrame, UnsupportedMedia or TooLarge name `field`; nothing else is raised, but by `reserve`, which is called
    with the bytes of the pixels once the header has told them, before any is decoded.
    """
    if not len(data):
        raise InvalidFrame(f"{field} is empty", field=field)
    if len(data) > limits.max_bytes:
        raise TooLarge(f"{field} has {len(data)} bytes; at most {limits.max_bytes} are read", field=field)
    file = bytes(data)
    head = image_header.read(file, field)
    limits.check(head.width, head.height, field)
    if reserve is not None:
        reserve(3 * head.width * head.height)
    pixels = _anymap(head, field) if head.kind is Kind.ANYMAP else _pillow(head, field)
    return Frame(_upright(pixels, head.orientation), source=file if len(file) < pixels.nbytes else None)


def from_raw(
    data: bytes | memoryview, height: int, width: int, limits: FrameLimits, field: str, stride: int | None = None
) -> Frame:
    """Take RGB8 rows, `stride` bytes from one to the next (none: 3 x width); bytes without gaps are not copied.

    The last row may end where its pixels end. InvalidFrame or TooLarge name `field`.
    """
    limits.check(width, height, field)
    row = 3 * width
    stride = row if stride is None else stride
    # The product is bounded before it is used: a huge stride must not become a huge expectation.
    if not row <= stride <= limits.max_bytes:
        raise InvalidFrame(f"{field} has rows of {row} bytes, which a stride of {stride} cannot hold", field=field)
    view = memoryview(data).cast("B")
    if not (height - 1) * stride + row <= len(view) <= height * stride:
        raise InvalidFrame(
            f"{field} has {len(view)} bytes; {width}x{height} RGB with rows of {stride} takes {height * stride}",
            field=field,
        )
    if stride == row:
        # A frame is never written to: memory that its owner may still change is copied.
        flat = np.frombuffer(view if view.readonly else bytes(view), np.uint8)
        return Frame(flat.reshape(height, width, 3))
    buffer = np.zeros(height * stride, np.uint8)
    buffer[: len(view)] = np.frombuffer(view, np.uint8)
    return Frame(np.ascontiguousarray(buffer.reshape(height, stride)[:, :row]).reshape(height, width, 3))


def check_quality(format: ImageFormat, quality: int | None) -> None:
    """Raise InvalidRequest, its field `image_quality`, for one out of range or for a format that has none."""
    _check_range(quality)
    if quality is not None and not format.lossy:
        raise InvalidRequest(f"image_quality means nothing for {format}; jpeg and webp have one", field="image_quality")


def _check_range(quality: int | None) -> None:
    if quality is not None and not 1 <= quality <= 100:
        raise InvalidRequest("image_quality must be between 1 and 100", field="image_quality")


def encode(frame: Frame, format: ImageFormat, quality: int | None = None) -> bytes:
    """Encode a file. `quality` is 1..100 for JPEG (none: 95) and WebP (none: lossless); others are always lossless.

    NotAcceptable where the frame is longer than the format can hold.
    """
    _check_range(quality)
    longest = LONGEST.get(format)
    if longest is not None and max(frame.width, frame.height) > longest:
        raise NotAcceptable(f"{format} holds at most {longest} pixels a side; ask for image/png")
    if format is ImageFormat.RAW:
        own = own_bytes(frame)
        return frame.pixels.tobytes() if own is None else own
    if format is ImageFormat.PPM:
        return b"P6\n%d %d\n255\n" % (frame.width, frame.height) + frame.pixels.tobytes()
    if format is ImageFormat.PNG:
        return _png(frame.pixels)
    file = io.BytesIO()
    image = Image.fromarray(frame.pixels)
    if format is ImageFormat.JPEG:
        quality = JPEG_QUALITY if quality is None else quality
        # Halved chroma is visible on saturated edges; from 90 on the caller pays for fidelity.
        image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    elif quality is None:
        image.save(file, "WEBP", lossless=True, quality=0, method=0)
    else:
        image.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()


def own_bytes(frame: Frame) -> bytes | None:
    """Return the bytes object that holds just this frame's pixels, None where they lie elsewhere: nothing is copied."""
    memory: object = frame.pixels
    while isinstance(memory, np.ndarray):
        memory = memory.base
    if isinstance(memory, memoryview):
        memory = memory.obj
    # A frame's pixels have no gaps, so that as many bytes are those of all of it.
    return memory if isinstance(memory, bytes) and len(memory) == frame.pixels.nbytes else None


def _png(pixels: Pixels) -> bytes:
    """Write a PNG, every row as its difference to the left: much faster than choosing a filter each.

    Deflated by ISA-L, in a fifth of zlib's time for a twentieth more bytes. Which bytes depends on the processor.
    """
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 1  # filter type "Sub"
    flat = pixels.reshape(height, 3 * width)
    rows[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=rows[:, 4:])
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", isal_zlib.compress(rows.data, DEFLATE_LEVEL)),
        (b"IEND", b""),
    )
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        checksum = isal_zlib.crc32(body, isal_zlib.crc32(name))
        parts += [struct.pack(">I", len(body)), name, body, struct.pack(">I", checksum)]
    return b"".join(parts)


def _pillow(head: ImageHeader, field: str) -> Pixels:
    try:
        with Image.open(io.BytesIO(head.essential), formats=(head.kind,)) as image:
            # A file whose headers disagree (ours read one, Pillow another) would slip past the limits.
            if image.size != (head.width, head.height) or getattr(image, "n_frames", 1) != 1:
                raise image_header.damaged(field)
            image.load()
            return _rgb(image, field)
    except (InvalidFrame, MemoryError):
        raise
    except Exception as error:
        # Whatever a decoder raises over hostile bytes (OSError, SyntaxError, struct.error, ...) is the file's fault.
        raise (image_header.truncated(field) if "truncated" in str(error) else image_header.damaged(field)) from error


def _rgb(image: Image.Image, field: str) -> Pixels:
    """Convert a decoded picture of any mode to HxWx3."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode == "I;16" or image.mode == "I;16B":
        return _grey((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "L" and "transparency" not in image.info:
        return _grey(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        low, _ = rgba.getchannel("A").getextrema()
        if low != 255:
            raise InvalidFrame(f"{field} has transparent pixels; flatten it onto its background first", field=field)
        return np.asarray(rgba.convert("RGB"))
    if image.mode in ("1", "P"):
        return np.asarray(image.convert("RGB"))
    raise InvalidFrame(f"{field} has pixels of a kind that is not read ({image.mode})", field=field)


def _grey(levels: Pixels) -> Pixels:
    """Repeat HxW grey levels as HxWx3."""
    return np.repeat(levels[:, :, None], 3, axis=2)


def _anymap(head: ImageHeader, field: str) -> Pixels:
    depth = 1 if head.maxval < 256 else 2
    count = head.width * head.height * head.channels
    body = memoryview(head.essential)[head.offset :]
    if len(body) < count * depth:
        raise image_header.truncated(field)
    if len(body) > count * depth:
        raise InvalidFrame(f"{field} goes on after its picture; send one picture a file", field=field)
    levels = np.frombuffer(body, np.uint8 if depth == 1 else ">u2")
    if head.maxval != 255:
        if levels.size and int(levels.max()) > head.maxval:
            raise image_header.damaged(field)
        levels = ((levels.astype(np.uint32) * 255 + head.maxval // 2) // head.maxval).astype(np.uint8)
    if head.channels == 1:
        return _grey(levels.reshape(head.height, head.width))
    return levels.reshape(head.height, head.width, 3)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn by Exif's eight orientations: from 5 on rows and columns are swapped, then flips are left."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
