"""Which frames of a clip are predicted, and from what: pure decisions, one frame at a time.

A frame is predicted only from frames of its own scene; where there are not enough of them it is kept as it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Protocol

from service.serving.video.clip import VideoError

#: Characters of a list of lost frames at most: a number for each frame of ten hours.
MAX_LIST = 8 * 2**20
#: The largest n of every n-th frame: more than any clip has, and still quick to divide by.
MAX_NTH = 10**9

_BETWEEN = re.compile(r"[,\s]+")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Keep:
    """The frame stays as it came."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The frame is lost and nothing can be predicted: the one before it is shown again."""


@dataclass(frozen=True, slots=True)
class Predict:
    """`steps` frames on from the pair that lies `back + 1` and `back` frames ago.

    `repaired`: the pair is taken from what was shown, where lost frames are already predicted; else from what came in.
    """

    back: int
    steps: int
    repaired: bool = False


Decision = Keep | Repeat | Predict


class FramePlan(Protocol):
    """`index` counts the clip's frames from 0; `since_cut` those of its scene, this one not counted."""

    @property
    def memory(self) -> int:
        """Return the number of frames back that a decision may reach."""
        ...

    def lost(self, index: int) -> bool:
        """Tell whether the frame that came in at this place cannot be trusted."""
        ...

    def decide(self, index: int, since_cut: int) -> Decision:
        """Decide what is shown at this place."""
        ...


@dataclass(frozen=True, slots=True)
class Ahead:
    """Every frame as it was foreseen `steps` frames earlier."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise VideoError("--ahead must be at least 1")

    @property
    def memory(self) -> int:
        """Return frames back to the pair, which lies before the frames that are skipped."""
        return self.steps + 1

    def lost(self, index: int) -> bool:
        """Return False: this plan treats no frame as lost."""
        return False

    def decide(self, index: int, since_cut: int) -> Decision:
        """Keep frames until the scene has a pair that is old enough; then predict."""
        return Predict(back=self.steps, steps=self.steps) if since_cut > self.steps else Keep()


@dataclass(frozen=True, slots=True)
class Every:
    """Every n-th frame is predicted from the two before it, the others are kept: how good are the predictions?"""

    nth: int

    def __post_init__(self) -> None:
        if not 1 <= self.nth <= MAX_NTH:
            raise VideoError(f"--every must be at least 1 and at most {MAX_NTH}")

    @property
    def memory(self) -> int:
        """Return 2: the two frames before."""
        return 2

    def lost(self, index: int) -> bool:
        """Return False: this plan treats no frame as lost."""
        return False

    def decide(self, index: int, since_cut: int) -> Decision:
        """Predict the n-th, 2n-th, ... frame if its scene has two frames before it."""
        return Predict(back=1, steps=1) if (index + 1) % self.nth == 0 and since_cut >= 2 else Keep()


@dataclass(frozen=True, slots=True)
class FrameRanges:
    """Numbers of frames as sorted ranges apart from one another: as small as their text, however much they cover."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> FrameRanges:
        """Join (first, last) pairs, both included, that touch or overlap."""
        firsts: list[int] = []
        lasts: list[int] = []
        for first, last in sorted(pairs):
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], last)
            else:
                firsts.append(first)
                lasts.append(last)
        return cls(tuple(firsts), tuple(lasts))

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        place = bisect_right(self.firsts, index) - 1
        return place >= 0 and index <= self.lasts[place]


@dataclass(frozen=True, slots=True)
class FillLost:
    """Lost frames are predicted from the two shown before them, whether those came in or were predicted too."""

    indexes: Container[int]

    @property
    def memory(self) -> int:
        """Return the number of frames back: the two before."""
        return 2

    def lost(self, index: int) -> bool:
        """Tell whether the list names this frame."""
        return index in self.indexes

    def decide(self, index: int, since_cut: int) -> Decision:
        """Predict lost frames; one right after a cut repeats what is there; with nothing there at all it stays."""
        if index not in self.indexes:
            return Keep()
        if since_cut >= 2:
            return Predict(back=1, steps=1, repaired=True)
        return Repeat() if index else Keep()


def lost_frames(text: str, *, most: int = MAX_LIST) -> FrameRanges:
    """Parse numbers and ranges of frames, counted from 0: `17`, `20-24`; one a line or with commas, # begins a comment.

    VideoError where `text` has more than `most` characters, names no frame, or holds another word.
    """
    if len(text) > most:
        raise VideoError(f"the list of lost frames is longer than {most} characters; write ranges like 20-24")
    pairs: list[tuple[int, int]] = []
    for number, line in enumerate(text.splitlines() or [text], start=1):
        for word in _BETWEEN.split(line.partition("#")[0].strip()):
            if not word:
                continue
            match = _RANGE.fullmatch(word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise VideoError(f"line {number} of the lost frames: {word[:40]!r} is no number or range like 20-24")
            pairs.append((first, last))
    if not pairs:
        raise VideoError("the list of lost frames names none; write frame numbers, counted from 0, one a line")
    return FrameRanges.of(pairs)
