"""YUV4MPEG2, the format that ffmpeg and others pipe: a line of text, then raw frames. 8 bits; no sound, no timestamps.

Colours: BT.601 below 720 lines, BT.709 from there on (the format does not say); limited range unless XCOLORRANGE=FULL.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.core.types import Frame
from service.imaging.codec import FrameLimits
from service.serving.video.clip import HD_LINES, Info, Item, PictureTraits, Timed, VideoError, check_size

MAGIC = b"YUV4MPEG2"
MAX_LINE = 1024
#: Frames a second at most: some programs write their clock's rate here.
MAX_RATE = 10**6
NO_FRAMES = "the y4m stream has no frames"

#: Chroma's step in x and y; mono has none.
_STEPS = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mono": None}
#: Kinds of 8 bits; where 4:2:0's chroma sits between pixels makes no difference that is read.
_CHROMA = re.compile(r"(420|422|444|mono)(?:jpeg|mpeg2|paldv)?")
_OLDER_CHROMA = b"XYSCSS="
_DEEP = re.compile(r".*?(?:p|mono)(?:9|1[0-9])")
SQUARE = PictureTraits()
_INTERLACED = ("t", "b", "m")

_NO_Y4M = (
    "this is no y4m stream (it does not begin with YUV4MPEG2); give a file by its name, or pipe its frames: "
    "ffmpeg -i in.mp4 -f yuv4mpegpipe -pix_fmt yuv420p -"
)

Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Y4mHeader:
    """The first line. `chroma` is 420, 422, 444 or mono."""

    width: int
    height: int
    rate: Fraction
    chroma: str = "420"
    full_range: bool = False
    pixel_aspect: Fraction = Fraction(1)

    @property
    def chroma_size(self) -> tuple[int, int]:
        """Return rows and columns of each chroma plane; 0, 0 for mono."""
        step = _STEPS[self.chroma]
        return (0, 0) if step is None else (-(-self.height // step[1]), -(-self.width // step[0]))

    @property
    def frame_bytes(self) -> int:
        """Count the bytes of one frame without its FRAME line."""
        rows, columns = self.chroma_size
        return self.width * self.height + 2 * rows * columns

    @classmethod
    def parse(cls, line: bytes) -> Y4mHeader:
        """Parse the line without its newline. Raises VideoError naming what cannot be used."""
        magic, *words = line.split(b" ")
        if magic != MAGIC:
            raise VideoError(_NO_Y4M)
        if line.endswith(b"\r"):
            raise VideoError("the y4m stream was sent as text: its lines end in CR LF, and so its frames are spoilt")
        tags = {word[:1]: word[1:].decode("ascii", "replace") for word in words if word and word[:1] != b"X"}
        try:
            width, height = int(tags[b"W"]), int(tags[b"H"])
            above, _, below = tags.get(b"F", "25:1").partition(":")
            rate = Fraction(int(above), int(below)) if int(above) and int(below) else Fraction(25)
        except (KeyError, ValueError):
            raise VideoError("the y4m header lacks a width, height or frame rate that can be read") from None
        if not (1 <= width <= 65535 and 1 <= height <= 65535 and 0 < rate <= MAX_RATE):
            raise VideoError(f"the y4m header says {width}x{height} at {rate} fps, which cannot be")
        if tags.get(b"I") in _INTERLACED:
            raise VideoError("the y4m stream is interlaced; pipe whole frames: ffmpeg ... -vf bwdif -f yuv4mpegpipe -")
        full_range = b"XCOLORRANGE=FULL" in words
        chroma = tags.get(b"C") or _older_chroma(words)
        return cls(width, height, rate, _chroma(chroma), full_range, _aspect(tags.get(b"A", "")))

    def line(self) -> bytes:
        """Write the first line of a stream."""
        # 420jpeg: chroma sits between the pixels, which is where averaging two by two puts it.
        chroma = "420jpeg" if self.chroma == "420" else self.chroma
        rate, aspect = self.rate, self.pixel_aspect
        text = (
            f"YUV4MPEG2 W{self.width} H{self.height} F{rate.numerator}:{rate.denominator} Ip "
            f"A{aspect.numerator}:{aspect.denominator} C{chroma}{' XCOLORRANGE=FULL' if self.full_range else ''}"
        )
        return text.encode() + b"\n"


def _older_chroma(words: list[bytes]) -> str:
    """Return the chroma that the word before `C` tells, which FFmpeg reads, too; 420jpeg where neither is there."""
    names = [word.removeprefix(_OLDER_CHROMA) for word in words if word.startswith(_OLDER_CHROMA)]
    return names[0].decode("ascii", "replace").lower() if names else "420jpeg"


def _chroma(name: str) -> str:
    """Return 420, 422, 444 or mono. Raises VideoError for other kinds, by name."""
    if match := _CHROMA.fullmatch(name):
        return match[1]
    why = "has more than 8 bits" if _DEEP.fullmatch(name) else "has alpha" if name.endswith("alpha") else "is not read"
    raise VideoError(f"y4m with chroma {name[:20]} {why}; pipe 8 bits: ffmpeg ... -pix_fmt yuv420p")


def _aspect(text: str) -> Fraction:
    """Read a pixel's width to its height; 0:0, which is not known, counts as 1:1."""
    match = re.fullmatch(r"([1-9][0-9]{0,8}):([1-9][0-9]{0,8})", text)
    return Fraction(int(match[1]), int(match[2])) if match else Fraction(1)


class Y4mSource:
    """Reads a stream, a pipe for instance. `length`: bytes of the file, where known."""

    def __init__(self, stream: BinaryIO, *, limits: FrameLimits, length: int | None = None) -> None:
        self._stream = stream
        magic = _exactly(stream, len(MAGIC))
        if magic != MAGIC:
            raise VideoError(_NO_Y4M)
        line = magic + _line(stream)
        self.header = header = Y4mHeader.parse(line)
        # Before a frame is read: the header alone decides how much memory that takes.
        check_size(limits, header.width, header.height)
        if length == len(line) + 1:
            raise VideoError(NO_FRAMES)
        frames = None if length is None else (length - len(line) - 1) // (header.frame_bytes + 6)
        traits = PictureTraits(header.pixel_aspect, full_range=header.full_range)
        size = header.width, header.height
        self.info = Info(*size, header.rate, 1 / header.rate, frames, counted=frames is not None, traits=traits)

    def __iter__(self) -> Iterator[Item]:
        pts = 0
        while line := _line(self._stream, at_end=True):
            if not line.startswith(b"FRAME"):
                raise VideoError(f"y4m frame {pts} does not begin with FRAME: the stream is damaged")
            data = _exactly(self._stream, self.header.frame_bytes)
            if len(data) < self.header.frame_bytes:
                raise VideoError(f"the y4m stream ends inside frame {pts}")
            yield Timed(Frame(to_rgb(data, self.header)), pts, 1)
            pts += 1
        if not pts:
            raise VideoError(NO_FRAMES)

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""


class Y4mSink:
    """Writes a stream. Sound and timestamps have no place in it: frames follow each other at the clip's rate.

    `notes`: what of the clip that changes, in words for users.
    """

    def __init__(
        self,
        stream: BinaryIO,
        width: int,
        height: int,
        rate: Fraction,
        chroma: str = "420",
        *,
        traits: PictureTraits = SQUARE,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._stream, self.notes = stream, notes
        self._header = Y4mHeader(width, height, rate, chroma, traits.full_range, traits.pixel_aspect)
        stream.write(self._header.line())

    def write(self, item: Item) -> None:
        """Write the next frame; a packet of sound is left out."""
        if isinstance(item, Timed):
            self._stream.write(b"FRAME\n")
            self._stream.write(from_rgb(item.frame.pixels, self._header))

    def close(self) -> None:
        """Flush: all is handed over."""
        self._stream.flush()


def to_rgb(data: bytes, header: Y4mHeader) -> Plane:
    """Convert one frame's planes to HxWx3."""
    size = header.width * header.height
    y = np.frombuffer(data, np.uint8, size).reshape(header.height, header.width).astype(np.float32)
    rows, columns = header.chroma_size
    offset, y_scale, c_scale = (0.0, 1.0, 1.0) if header.full_range else (16.0, 255 / 219, 255 / 224)
    y = (y - offset) * y_scale
    if not rows:
        return np.repeat(_bytes(y)[:, :, None], 3, axis=2)
    planes = np.frombuffer(data, np.uint8, 2 * rows * columns, size).reshape(2, rows, columns)
    u, v = ((_grow(plane, header) - 128.0) * c_scale for plane in planes)
    kr, kb = _weights(header.height)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = y - (2 * (1 - kr) * kr * v + 2 * (1 - kb) * kb * u) / (1 - kr - kb)
    return np.ascontiguousarray(np.stack([_bytes(red), _bytes(green), _bytes(blue)], axis=2))


def from_rgb(pixels: Plane, header: Y4mHeader) -> bytes:
    """Convert HxWx3 to one frame's planes."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32), 2, 0)
    kr, kb = _weights(header.height)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    offset, y_scale, c_scale = (0.0, 1.0, 1.0) if header.full_range else (16.0, 219 / 255, 224 / 255)
    planes = [_bytes(y * y_scale + offset)]
    if header.chroma != "mono":
        for colour, weight in ((blue, kb), (red, kr)):
            planes.append(_bytes(_shrink((colour - y) / (2 * (1 - weight)), header) * c_scale + 128.0))
    return b"".join(plane.tobytes() for plane in planes)


def _weights(height: int) -> tuple[float, float]:
    """Return Kr and Kb of BT.601 and BT.709."""
    return (0.299, 0.114) if height < HD_LINES else (0.2126, 0.0722)


def _bytes(values: NDArray[np.floating[Any]]) -> Plane:
    return (values.clip(0, 255) + 0.5).astype(np.uint8)


def _grow(plane: Plane, header: Y4mHeader) -> NDArray[np.float32]:
    x, y = _STEPS[header.chroma] or (1, 1)
    whole = plane.repeat(y, axis=0).repeat(x, axis=1)
    return whole[: header.height, : header.width].astype(np.float32)


def _shrink(plane: NDArray[np.float32], header: Y4mHeader) -> NDArray[np.float32]:
    x, y = _STEPS[header.chroma] or (1, 1)
    rows, columns = header.chroma_size
    edges = np.pad(plane, ((0, rows * y - header.height), (0, columns * x - header.width)), mode="edge")
    means: NDArray[np.float32] = edges.reshape(rows, y, columns, x).mean(axis=(1, 3), dtype=np.float32)
    return means


def _line(stream: BinaryIO, *, at_end: bool = False) -> bytes:
    """Read a line without its newline; b"" at the end of the stream if that may be."""
    text = bytearray()
    while len(text) < MAX_LINE:
        char = stream.read(1)
        if not char and at_end and not text:
            return b""
        if not char:
            break
        if char == b"\n":
            return bytes(text)
        text += char
    raise VideoError("this is no y4m stream (a line of its text does not end)")


def _exactly(stream: BinaryIO, count: int) -> bytes:
    """Read `count` bytes, or fewer at the end: a pipe gives what it has."""
    if isinstance(stream, io.BufferedReader | io.BytesIO):
        return stream.read(count)
    parts: list[bytes] = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
