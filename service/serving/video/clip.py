"""The values that travel through a video: what a clip is, its frames in time, and what passes by untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from service.core.types import Frame


class VideoError(Exception):
    """A clip cannot be read or written; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Info:
    """A clip before its first frame. `frames` is None where nothing tells; `time_base` is seconds per unit of `pts`."""

    width: int
    height: int
    rate: Fraction  #: frames per second
    time_base: Fraction
    frames: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """A frame and when it is shown, in units of the clip's time base."""

    frame: Frame
    pts: int


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

    def write(self, item: Item) -> None:
        """Write the next frame or packet."""
        ...

    def close(self) -> None:
        """End the clip; it is whole only afterwards."""
        ...
