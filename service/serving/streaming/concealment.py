"""What a stream with losses shows at each tick of a steady clock: real frames, predicted ones, or both blended.

Frames come with numbers that have gaps. Each pair that came leads to predictions of the ticks after it; a tick whose
frame is not here shows one of them, from the second on averaged with what the pair before led to, and as far as such
predictions have been right: the rest is the last picture, standing still. Where real frames return, the prediction goes
on along its motion for a few ticks while they are faded in, so that nothing jumps. Knows no clock, engine or transport:
times are arguments, in seconds.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.core.errors import InvalidRequest
from service.core.types import Frame
from service.serving.streaming.motion_trust import Floats, MotionTrust, few_samples

#: Of the clock, a second.
LEAST_FPS, MOST_FPS = 1.0, 240.0
MOST_PREDICTED, MOST_BLENDED = 16, 8
#: Numbers by which a frame may be ahead of the clock; more is a jump of the sender, which begins anew.
MOST_AHEAD = 64
#: Frames in a row that are too late to be shown, after which the sender's clock is taken to have jumped back.
MOST_LATE = 64
#: Arrivals by whose earliest the clock follows the sender's, and the part of an interval that it moves at each.
FOLLOWED, SLEW = 64, 0.01
#: Predictions kept, of pairs that came before their ticks.
MOST_LEADS = 4
#: Part of a prediction, by its distance, that is of the pair before: what both have wrong is not the same.
OF_OLDER = (0.0, 0.2, 0.3)
#: The weight of a picture that is shown alone.
ALL = np.ones((1, 1), np.float32)
#: Predictions that are nowhere trusted more are not shown: the picture before stays.
LEAST_TRUST = 0.1
#: Those that are nowhere trusted less are shown as they are.
MOST_TRUST = 0.98


@dataclass(frozen=True, slots=True)
class Concealment:
    """How a stream is concealed. `fps`: the clock; `most`: frames predicted in a row; `blend`: ticks to fade in.

    `delay_s`: how long after its time a frame may come and still be shown; None: half an interval.
    """

    fps: float
    most: int = 8
    blend: int = 2
    delay_s: float | None = None

    @property
    def interval(self) -> float:
        """Return the seconds between two ticks."""
        return 1 / self.fps

    def check(self) -> Concealment:
        """Return this, or raise InvalidRequest naming the field."""
        delay_ms = None if self.delay_s is None else 1000 * self.delay_s  # as callers write it
        for name, value, low, high in (
            ("fps", self.fps, LEAST_FPS, MOST_FPS),
            ("most", self.most, 1, MOST_PREDICTED),
            ("blend", self.blend, 0, MOST_BLENDED),
            ("delay_ms", delay_ms, 0, 1000),
        ):
            if value is not None and not low <= value <= high:
                raise InvalidRequest(f"{name} must be between {low:g} and {high:g}", field=f"conceal.{name}")
        return self


class TickSource(enum.StrEnum):
    """What a tick shows."""

    REAL = "real"
    BLENDED = "blended"  #: a real frame, faded in over what was predicted before it came
    PREDICTED = "predicted"
    REPEATED = "repeated"  #: nothing new: no frame came and none could be predicted


@dataclass(frozen=True, slots=True, eq=False)
class NumberedFrame:
    """A frame that came."""

    number: int
    frame: Frame
    frame_id: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LeadingPair:
    """Two frames that came, and the moments `times` of the ticks after them, in intervals between these two."""

    previous: NumberedFrame
    current: NumberedFrame
    times: tuple[float, ...]


#: Pictures and their weights, which sum to 1: rows x columns of a grid over the picture, or 1 x 1. None: nothing new.
Parts = tuple[tuple[Frame, Floats], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One tick, and the parts of the picture that it shows."""

    number: int
    source: TickSource
    due: float
    parts: Parts = ()
    frame_id: str = ""

    def picture(self) -> Frame | None:
        """Return the pixels to show; None where nothing new is shown."""
        if not self.parts:
            return None
        (first, _), *others = self.parts
        if not others:
            return first
        total, rest = np.full(first.pixels.shape, 128, np.uint16), np.full((1, 1, 1), 256, np.uint16)
        for frame, weight in others:
            # Rounded up more than once they could be more than all.
            share = np.minimum(_of_pixels(np.rint(256 * weight).astype(np.uint16), frame), rest)
            total += frame.pixels * share
            rest = rest - share
        total += first.pixels * rest
        return Frame((total >> 8).astype(np.uint8))


def _of_pixels(grid: NDArray[np.uint16], frame: Frame) -> NDArray[np.uint16]:
    """Spread a grid over a frame: HxWx1, or 1x1x1 where one value is for all."""
    if grid.size > 1:
        rows = np.arange(frame.height) * grid.shape[0] // frame.height
        columns = np.arange(frame.width) * grid.shape[1] // frame.width
        grid = grid[rows[:, None], columns]
    return grid[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class _Lead:
    number: int  #: of the frame it leads on from
    after: int  #: number of the frame before it in its pair
    still: Frame  #: the frame it leads on from
    frames: tuple[Frame, ...]

    def at(self, number: int) -> Frame | None:
        place = number - self.number - 1
        return self.frames[place] if 0 <= place < len(self.frames) else None


class Concealer:
    """Push frames and their predictions, and ask for each tick when it is due."""

    def __init__(self, config: Concealment) -> None:
        self._config = config.check()
        self._delay = config.interval / 2 if config.delay_s is None else config.delay_s
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next frame: no clock, no predecessor."""
        self._base: float | None = None  #: when frame `_first` is due, less the delay
        self._first = self._next = 0
        self._newest: NumberedFrame | None = None
        self._ready: dict[int, NumberedFrame] = {}
        self._leads: deque[_Lead] = deque(maxlen=MOST_LEADS)
        self._offsets: deque[float] = deque(maxlen=FOLLOWED)
        self._late = 0
        self._left: _Lead | None = None  #: what was shown last, where that was predicted
        self._trust = MotionTrust()
        self._blended = 0

    def arrived(self, frame: NumberedFrame, now: float) -> LeadingPair | None:
        """Take a frame; return the pair that is to be predicted from, if it makes one."""
        number = frame.number
        if self._base is not None and self._jumps(number):
            self.reset()
        if self._base is None:
            self._base, self._first, self._next = now, number, number
        self._follow(number, now)
        if number >= self._next:
            self._ready[number] = frame
        newest = self._newest
        if newest is not None and number <= newest.number:
            return None
        self._newest = frame
        self._learn(frame)
        if newest is None or newest.frame.pixels.shape != frame.frame.pixels.shape:
            return None
        gap = number - newest.number
        times = (place / gap for place in range(1, self._config.most + 1))
        return LeadingPair(newest, frame, tuple(t for t in times if t <= MOST_PREDICTED))

    def predicted(self, pair: LeadingPair, frames: Sequence[Frame]) -> None:
        """Take the frames of `pair`'s times; none where nothing leads on from it, as across a cut."""
        number = pair.current.number
        if self._newest is None or number > self._newest.number or (self._leads and self._leads[-1].number >= number):
            return  # of before a reset, or overtaken
        self._leads.append(_Lead(number, pair.previous.number, pair.current.frame, tuple(frames)))

    def due(self) -> float | None:
        """Return when the next tick is due; None before the first frame."""
        if self._base is None:
            return None
        return self._base + (self._next - self._first) * self._config.interval + self._delay

    @property
    def is_over(self) -> bool:
        """Tell whether all frames that came have been shown."""
        return self._newest is None or self._next > self._newest.number

    @property
    def nbytes(self) -> int:
        """Count the bytes of pixels held."""
        frames = [ready.frame for ready in self._ready.values()]
        frames += [frame for lead in self._leads for frame in (lead.still, *lead.frames)]
        frames += [] if self._newest is None else [self._newest.frame]
        return sum(frame.pixels.nbytes for frame in frames)

    def tick(self) -> Tick:
        """Return what the next tick shows, and go on to the one after."""
        due, number = self.due(), self._next
        assert due is not None  # ticks come after the first frame
        self._next += 1
        real = self._ready.pop(number, None)
        if real is not None:
            return self._shown(real, due)
        lead = next((lead for lead in reversed(self._leads) if lead.number < number), None)
        parts = () if lead is None else self._predicted(lead, number)
        if not parts:
            self._left = None
            return Tick(number, TickSource.REPEATED, due)
        self._left, self._blended = lead, 0
        return Tick(number, TickSource.PREDICTED, due, parts)

    def _shown(self, real: NumberedFrame, due: float) -> Tick:
        over: Parts = ()
        if self._left is not None and self._blended < self._config.blend:
            over = self._predicted(self._left, real.number)
        if not over or over[0][0].pixels.shape != real.frame.pixels.shape:
            self._left = None
            return Tick(real.number, TickSource.REAL, due, ((real.frame, ALL),), real.frame_id)
        self._blended += 1
        weight = ALL * np.float32(self._blended / (self._config.blend + 1))
        parts = ((real.frame, weight), *((frame, (1 - weight) * part) for frame, part in over))
        return Tick(real.number, TickSource.BLENDED, due, parts, real.frame_id)

    def _predicted(self, lead: _Lead, number: int) -> Parts:
        """Return what is shown in place of a frame, as far as it is trusted; nothing where that is not far."""
        trust, motion = self._trust.at(number - lead.number), self._motion(lead, number)
        if not motion or trust.max() < LEAST_TRUST:
            return ()
        if trust.min() > MOST_TRUST:
            return motion
        return (*((frame, trust * part) for frame, part in motion), (lead.still, 1 - trust))

    def _motion(self, lead: _Lead, number: int) -> Parts:
        """Return a prediction, averaged with that of the pair before where there is one: both pairs share a frame."""
        frame, before = lead.at(number), next((other for other in self._leads if other.number == lead.after), None)
        older = None if before is None else before.at(number)
        if frame is None:
            return ()
        part = np.float32(OF_OLDER[min(number - lead.number, len(OF_OLDER)) - 1])
        if older is None or part == 0 or older.pixels.shape != frame.pixels.shape:
            return ((frame, ALL),)
        return ((frame, (1 - part) * ALL), (older, part * ALL))

    def _learn(self, frame: NumberedFrame) -> None:
        """Learn from what was predicted for a frame that came."""
        truth = few_samples(frame.frame)
        for lead in self._leads:
            motion = self._motion(lead, frame.number)
            if motion and lead.still.pixels.shape == frame.frame.pixels.shape:
                prediction = np.zeros(truth.shape, np.float32)
                for picture, part in motion:
                    prediction += part.item() * few_samples(picture)
                self._trust.learn(frame.number - lead.number, prediction, few_samples(lead.still), truth)

    def _jumps(self, number: int) -> bool:
        """Tell whether a number is so far off that the sender must have begun anew."""
        self._late = self._late + 1 if number < self._next else 0
        return number > self._next + MOST_AHEAD or self._late > MOST_LATE

    def _follow(self, number: int, now: float) -> None:
        """Move the clock a little towards the sender's, by the frames that took least time to come."""
        assert self._base is not None
        interval = self._config.interval
        self._offsets.append(now - self._base - (number - self._first) * interval)
        earliest = min(self._offsets)
        step = max(-SLEW * interval, min(SLEW * interval, earliest))
        self._base += step
        for place, offset in enumerate(self._offsets):
            self._offsets[place] = offset - step
