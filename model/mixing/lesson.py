"""What the frames of a stream teach about its mixture: which candidates come true there, and how sharp it really is.

A head sees one pair. In a stream the next frame comes, and shows how that pair should have been weighed: what each
candidate's share changes, at some hundred places, explains part of the error (regularised least squares, earlier frames
counting less and less). The next pair is weighed so. Knows no stream; whoever keeps lessons hands them in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.mixing.candidate_names import MOVED
from model.mixing.weights import HeadMetadata
from model.motion.field import Floats, Pixels

#: About so many pixels of a frame are looked at, of these their green, which is most of what is seen.
PLACES, GREEN = 450, 1
#: Of what was learnt, a frame leaves so much to the next.
MEMORY = 0.97
#: What is added to the squares of every number: how firmly a head is believed before anything was seen. A frame adds
#: the energy that a unit of the number has, as a part of its squared error.
BELIEF = 0.1
#: No number may be larger.
MOST = 1.5
#: What is learnt of shares softens the frame. Where no bicubic warp gives detail back, there is so much more of it, at
#: full size and at a part of it, where the whole frame has its own; in full once so many frames have been seen.
SHARPENING, SHARPENING_OF_PART, FRAMES = 0.16, 0.06, 10
#: Squared error, of levels in 0..1, below which a frame's errors are rounding.
LEAST_ERROR = 1e-5


class Tuning(NamedTuple):
    """How one stream's pairs are weighed otherwise than a head would."""

    logits: Floats  #: K: added to those of the head's candidates
    sharpening: float = 0.0  #: added to `HeadMetadata.sharpening`
    crispness: float = 0.0  #: added to `HeadMetadata.crispness`; not below 0


class Guess(NamedTuple):
    """What was predicted at some places of a frame: N values."""

    frame: Floats  #: N: levels in 0..1
    parts: Floats  #: DxN: by how much a unit of each of the D numbers that are learnt would have changed them


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What was learnt so far. D: the head's K candidates, and its crispness where it has any."""

    names: tuple[str, ...]  #: K: the head's candidates
    sharpening: float  #: added once enough was seen, where no crispness is learnt
    squares: Floats  #: DxD
    products: Floats  #: D
    frames: int = 0  #: that taught it
    guess: Guess | None = None  #: of the frame that comes next

    @classmethod
    def start(cls, about: HeadMetadata, scale: float = 1.0) -> Lesson:
        """Return the lesson of a stream of which nothing is known, mixed at `scale` of its size.

        ValueError for a head that knows the network.
        """
        names = about.config.candidates
        if names != about.config.without_network:
            raise ValueError("a head that knows the network is not taught")
        is_whole = scale == 1
        numbers = len(names) + (about.crispness > 0 and is_whole)
        sharpening = SHARPENING if is_whole else SHARPENING_OF_PART
        return cls(names, sharpening, np.zeros((numbers, numbers), np.float32), np.zeros(numbers, np.float32))

    @property
    def is_crisp(self) -> bool:
        """Tell whether crispness is learnt, too."""
        return len(self.products) > len(self.names)

    def learnt(self, frame: Pixels) -> Lesson:
        """Return the lesson after `frame` HxWx3 came, which was guessed; as it is where nothing was, or another size.

        A guess that was not finite teaches nothing.
        """
        if self.guess is None:
            return self
        levels, guess, left = _levels(frame), self.guess, replace(self, guess=None)
        if (
            not levels.size
            or levels.shape != guess.frame.shape
            or not math.isfinite(guess.parts.sum() + guess.frame.sum())
        ):
            return left
        errors = levels - guess.frame
        weight = np.float32(1 / (len(levels) * (float(np.mean(errors * errors)) + LEAST_ERROR)))
        return Lesson(
            self.names,
            self.sharpening,
            np.asarray(MEMORY * self.squares + guess.parts @ guess.parts.T * weight, np.float32),
            np.asarray(MEMORY * self.products + guess.parts @ errors * weight, np.float32),
            self.frames + 1,
        )

    def tuning(self) -> Tuning:
        """Tell how to weigh the candidates of the next pair."""
        kinds = len(self.names)
        if self.frames == 0:
            return Tuning(np.zeros(kinds, np.float32))
        ridge = BELIEF * np.eye(len(self.products))
        numbers = np.linalg.solve(self.squares + ridge, self.products).clip(-MOST, MOST)
        logits = numbers[:kinds].astype(np.float32)
        if self.is_crisp:
            # Taking crispness away gains, too, but softens more than it gains.
            return Tuning(logits, crispness=max(0.0, float(numbers[kinds])))
        return Tuning(logits, sharpening=self.sharpening * min(1.0, self.frames / FRAMES))

    def guessed(self, frames: Pixels, shares: Floats, frame: Floats) -> Lesson:
        """Return this lesson with a guess of the next frame.

        `frames` KxHxWx3: the candidates, and with crispness the bicubic warp behind them. `shares`, half as large, and
        `frame` HxWx3 in 0..1: what was made of them (`predictor.Weighed`).
        """
        return self.guessed_levels(frames, shares, sampled(frame).ravel())

    def guessed_levels(self, frames: Pixels, shares: Floats, guess: Floats) -> Lesson:
        """Return as `guessed`, where of the frame only N levels were made: `sampled` ones, in a row."""
        kinds = len(self.names)
        levels = _levels(frames).reshape(len(frames), -1)
        every = step(*frames.shape[1:3])
        rows, columns = (np.arange(every // 2, side, every) // 2 for side in frames.shape[1:3])
        weights = shares[:, rows[:, None], columns].reshape(len(shares), -1)
        parts = np.empty((len(self.products), levels.shape[1]), np.float32)
        if self.is_crisp:
            # The first candidate's share is less by what the bicubic warp of it has.
            weights[0] += weights[kinds]
            moving = [place for place, name in enumerate(self.names) if name in MOVED]
            parts[kinds] = weights[moving].sum(0) * (levels[kinds] - levels[0])
        weighed = weights[:kinds] * levels[:kinds]
        parts[:kinds] = weighed - weights[:kinds] * weighed.sum(0)
        return replace(self, guess=Guess(guess, parts))


def step(height: int, width: int) -> int:
    """Return every how many pixels a frame is looked at."""
    return max(2, math.isqrt(height * width // PLACES))


def sampled(frames: NDArray[Any]) -> NDArray[Any]:
    """Return what is looked at of frames ..xHxWx3: ..xhxw."""
    every = step(*frames.shape[-3:-1])
    return frames[..., every // 2 :: every, every // 2 :: every, GREEN]


def _levels(pixels: Pixels) -> Floats:
    """Return what is looked at of frames ..xHxWx3, in 0..1, as a row."""
    return sampled(pixels).ravel() * np.float32(1 / 255)
