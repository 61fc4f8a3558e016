"""Which frame each place of a clip with another rate shows, and by how much it is carried on: pure decisions.

A place between two frames is predicted from the frame before it and that one's predecessor, within one scene; a pause
stays one. Times are fractions of seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from service.serving.video.clip import VideoError

#: Frames a second of what comes out.
LEAST_FPS, MOST_FPS = Fraction(1), Fraction(240)
#: Without concealment: a frame that stays for so many of the interval before it is a pause, shown as it is.
PAUSE = Fraction(5, 2)
#: Lost in a row at most; more is a scene that stands still, or a clip that was stopped.
MOST_LOST = 8
#: A frame that stays for so many intervals of the clip's rate is followed by a loss.
LOSS = Fraction(3, 2)
#: Moments that may be predicted, in intervals.
MOST_T = 16

_RATE = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,9})|(\.[0-9]{1,6}))?")


def rate(text: str) -> Fraction:
    """Parse frames a second: `60`, `59.94` or `60000/1001`. Raises VideoError."""
    match = _RATE.fullmatch(text)
    if match is None or (match[2] and int(match[2]) == 0):
        raise VideoError(f"--fps must be a number such as 60, 59.94 or 60000/1001, not {text[:20]!r}")
    value = Fraction(int(match[1]), int(match[2])) if match[2] else Fraction(text)
    if not LEAST_FPS <= value <= MOST_FPS:
        raise VideoError(f"--fps must be between {LEAST_FPS} and {MOST_FPS}")
    return value


@dataclass(frozen=True, slots=True)
class OutputPlaces:
    """The places from one frame to the next: `numbers`, the first of them `first_t` intervals after the frame.

    The others follow `step_t` apart; where both are 0, the frame itself is shown. `next_t`: the next frame's own
    moment, where places stand for frames that may have been lost: what is predicted for it tells whether they were.
    """

    numbers: range
    first_t: Fraction = Fraction(0)
    step_t: Fraction = Fraction(0)
    next_t: Fraction | None = None

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Return the moment of each place, in intervals after the frame."""
        return tuple(self.first_t + place * self.step_t for place in range(len(self.numbers)))

    def slices(self, most: int) -> Iterator[OutputPlaces]:
        """Yield the places in parts of at most `most`: a pause may have any number of them."""
        for start in range(0, len(self.numbers), most):
            yield replace(self, numbers=self.numbers[start : start + most], first_t=self.first_t + start * self.step_t)


@dataclass(slots=True)
class _Shown:
    moment: Fraction
    pace: Fraction | None  #: from the frame before of its scene


class Retimer:
    """Push the time of each frame, and get the places of the one before. `nominal`: frames a second of the clip."""

    def __init__(self, fps: Fraction, nominal: Fraction, *, conceal: bool) -> None:
        self._fps, self._interval, self._conceal = fps, 1 / nominal, conceal
        self._start = Fraction(0)
        self._first = self._number = 0
        self._last: _Shown | None = None

    def push(self, moment: Fraction, *, is_cut: bool) -> OutputPlaces:
        """Take the next frame; return the places that the one before has until then."""
        last = self._last
        if last is None:
            self._start = moment
            self._number = self._first = round(moment * self._fps)
            self._last = _Shown(moment, None)
            return OutputPlaces(range(0))
        places = self._places(last, moment, is_cut=is_cut)
        self._last = _Shown(moment, None if is_cut or moment <= last.moment else moment - last.moment)
        return places

    def end(self, duration: Fraction) -> OutputPlaces:
        """Return the places of the last frame, which is shown for `duration`."""
        if self._last is None:
            return OutputPlaces(range(0))
        return self._places(self._last, self._last.moment + duration, is_cut=True)

    def _places(self, last: _Shown, until: Fraction, *, is_cut: bool) -> OutputPlaces:
        end = self._first + math.ceil((until - self._start) * self._fps)
        numbers = range(self._number, max(self._number, end))
        self._number = numbers.stop
        gap = until - last.moment
        pace = last.pace
        is_lost = self._conceal and not is_cut and gap > LOSS * self._interval
        if pace is None or not self._moves(gap, pace, is_cut=is_cut, is_lost=is_lost):
            return OutputPlaces(numbers)
        first_t = max(Fraction(0), (self._at(numbers.start) - last.moment) / pace)
        return OutputPlaces(numbers, first_t, 1 / (self._fps * pace), gap / pace if is_lost else None)

    def _moves(self, gap: Fraction, pace: Fraction, *, is_cut: bool, is_lost: bool) -> bool:
        """Tell whether the motion goes on through a gap."""
        if gap / pace > MOST_T:
            return False
        if is_lost:
            return gap <= (MOST_LOST + 1) * self._interval * Fraction(5, 4)
        return gap <= PAUSE * pace or (is_cut and gap <= PAUSE * self._interval)

    def _at(self, number: int) -> Fraction:
        return self._start + (number - self._first) / self._fps
