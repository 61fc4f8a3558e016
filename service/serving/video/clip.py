"""The values that travel through a video: what a clip is, its frames in time, and what passes by untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, Protocol

from service.core.types import Frame
from service.imaging.codec import FrameLimits


class VideoError(Exception):
    """A clip cannot be read or written; the message says what to do about it."""


#: A clip of this many lines or more that does not name its matrix has BT.709's, a lower one BT.601's.
HD_LINES = 720
#: ISO/IEC 23091-2: not told; the matrices of BT.709 and BT.601.
UNSPECIFIED, BT709, BT601 = 2, 1, 6


class SoundMode(StrEnum):
    """What becomes of a clip's sound: copied where the container holds it, left out, or else encoded anew."""

    COPY = "copy"
    NONE = "none"
    TRANSCODE = "transcode"


@dataclass(frozen=True, slots=True)
class PictureTraits:
    """How a clip's pixels are to be shown; colours by their numbers in ISO/IEC 23091-2.

    Turned, mirrored and interlaced pictures are put right while they are read, so there is no field for that.
    """

    pixel_aspect: Fraction = Fraction(1)  #: width of a pixel by its height
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    full_range: bool = False  #: luma 0..255, not 16..235

    def matrix_at(self, height: int) -> int:
        """Return the matrix, or the one that `height` lines have where none is named."""
        if self.matrix != UNSPECIFIED:
            return self.matrix
        return BT709 if height >= HD_LINES else BT601


@dataclass(frozen=True, slots=True)
class Info:
    """A clip before its first frame. `frames` is None where nothing tells; `time_base` is seconds per unit of `pts`."""

    width: int
    height: int
    rate: Fraction  #: frames per second
    time_base: Fraction
    frames: int | None = None
    counted: bool = False  #: the header states `frames`; else they follow from length and rate
    densest: Fraction | None = None  #: frames per second where they lie closest; None: `rate` everywhere
    traits: PictureTraits = PictureTraits()
    notes: tuple[str, ...] = ()  #: what of the file is not read, in words for users


def check_size(limits: FrameLimits, width: int, height: int) -> None:
    """Raise TooLarge or InvalidFrame where a clip's frames are not what any picture may be."""
    limits.check(width, height, "body", "a frame of the clip")


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """A frame, when it is shown and for how long (0: not told), in units of the clip's time base."""

    frame: Frame
    pts: int
    duration: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """Something that is copied as it is: a packet of sound, on its way from one container to the next."""

    packet: Any
    stream: int


Item = Timed | Passed


class ClipSource(Protocol):
    """A clip that is read once, front to back, holding a few frames at most."""

    @property
    def info(self) -> Info:
        """Return the clip's properties; known before the first frame."""
        ...

    def __iter__(self) -> Iterator[Item]:
        """Iterate over frames in the order shown. Raises VideoError where the clip is damaged."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class ClipSink(Protocol):
    """A clip that is being written."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what could not be written as it came, in words for users; known before the first frame."""
        ...

    def write(self, item: Item) -> None:
        """Write the next frame or packet."""
        ...

    def close(self) -> None:
        """End the clip; it is whole only afterwards."""
        ...
