"""Makes a clip of another rate, or one whose lost and repeated frames are predicted; runs what `retiming` decides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from service.core import scene_cut
from service.core.types import Frame, PredictResult, Step
from service.serving.video.clip import ClipSource, Info, Item, Passed, Timed, VideoError
from service.serving.video.retiming import OutputPlaces, Retimer
from service.thread_work import run_to_end

#: Intervals whose places are predicted at once.
UNDER_WAY = 4
#: Predicted places and packets of sound that wait for their turn.
WAITING = 256
#: The largest t of a prediction, and the most of them in one.
MOST_TIMES = 16

#: previous, current, moments -> the answer.
PredictMoments = Callable[[Frame, Frame, tuple[float, ...]], Awaitable[PredictResult]]
#: Frames with whether each was predicted.
Output = tuple[Item, bool]


@dataclass(frozen=True, slots=True)
class RetimingParams:
    """What is made of a clip. `fps`: None keeps the clip's own; `conceal`: replace lost and repeated frames."""

    fps: Fraction | None = None
    conceal: bool = False
    scene_cuts: bool = True

    def rate(self, info: Info) -> Fraction:
        """Return the frames a second of what comes out."""
        return self.fps or (info.densest if self.conceal and info.densest else info.rate)


class RetimedSource:
    """What a sink sees of a clip: its own, at another rate."""

    def __init__(self, source: ClipSource, params: RetimingParams) -> None:
        info, rate = source.info, params.rate(source.info)
        frames = None if info.frames is None else max(1, round(info.frames * rate / info.rate))
        self.info = replace(info, rate=rate, time_base=1 / rate, frames=frames, counted=False, densest=None)
        self.sounds = list(getattr(source, "sounds", ()))
        self._source = source

    def __iter__(self) -> Iterator[Item]:
        return iter(self._source)

    def close(self) -> None:
        """Close the clip."""
        self._source.close()


async def retimed_frames(
    source: ClipSource, params: RetimingParams, predict: PredictMoments
) -> AsyncGenerator[Output, None]:
    """Yield what to write, in order, and whether it was predicted. The first error ends it, and all under way."""
    retiming, waiting = _Retiming(source, params, predict), deque[Passed | asyncio.Future[list[Output]]]()
    count = 0
    try:
        while (entry := await run_to_end(retiming.read)) is not None:
            # awaited: below, in order
            waiting.append(entry if isinstance(entry, Passed) else asyncio.ensure_future(retiming.shown(entry)))
            count += not isinstance(entry, Passed)
            while count > UNDER_WAY or len(waiting) > WAITING:
                first = waiting.popleft()
                count -= not isinstance(first, Passed)
                for output in await _outputs(first):
                    yield output
        while waiting:
            for output in await _outputs(waiting.popleft()):
                yield output
    finally:
        tasks = [entry for entry in waiting if not isinstance(entry, Passed)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outputs(entry: Passed | asyncio.Future[list[Output]]) -> list[Output]:
    return [(entry, False)] if isinstance(entry, Passed) else await entry


@dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    """The places of one frame, what it follows, and the frame after."""

    places: OutputPlaces
    previous: Frame | None
    current: Frame
    following: Frame | None


class _Retiming:
    """Reads frames, and makes the places between them."""

    def __init__(self, source: ClipSource, params: RetimingParams, predict: PredictMoments) -> None:
        info = source.info
        self._items, self._base, self._params, self._predict = iter(source), info.time_base, params, predict
        nominal = info.densest if params.conceal and info.densest else info.rate
        self._retimer = Retimer(params.rate(info), nominal, conceal=params.conceal)
        self._interval = 1 / nominal
        self._finder = None
        if params.conceal:
            from service.serving.video.duplicates import DuplicateFinder  # PyAV, which y4m does not need otherwise

            self._finder = DuplicateFinder()
        self._pair: tuple[Frame | None, Frame] | None = None
        self._thumbnail: scene_cut.Thumbnail | None = None
        self._last_end = Fraction(0)
        self._moment = Fraction(0)
        self._is_over = False

    def read(self) -> _Interval | Passed | None:
        """Return the next thing whose places are known; None at the end."""
        while not self._is_over:
            item = next(self._items, None)
            if item is None:
                self._is_over = True
                places = self._retimer.end(max(self._last_end - self._moment, self._interval))
                return None if self._pair is None else _Interval(places, *self._pair, None)
            if isinstance(item, Passed):
                return item
            interval = self._took(item)
            if interval is not None:
                return interval
        return None

    def _took(self, item: Timed) -> _Interval | None:
        moment = item.pts * self._base
        self._last_end = moment + (item.duration * self._base or self._interval)
        if self._pair is not None and item.frame.pixels.shape != self._pair[1].pixels.shape:
            raise VideoError("the frame size changes within the clip; scale the clip to one size first")
        if self._finder is not None and self._finder.is_duplicate(item.frame):
            return None
        is_cut = self._is_cut(item.frame)
        places, pair = self._retimer.push(moment, is_cut=is_cut), self._pair
        self._moment = moment
        self._pair = (None if pair is None or is_cut else pair[1], item.frame)
        return None if pair is None else _Interval(places, *pair, None if is_cut else item.frame)

    def _is_cut(self, frame: Frame) -> bool:
        if not self._params.scene_cuts:
            return False
        previous, self._thumbnail = self._thumbnail, scene_cut.thumbnail(frame)
        return previous is not None and scene_cut.is_cut(previous, self._thumbnail)

    async def shown(self, interval: _Interval) -> list[Output]:
        """Return the frames of one interval's places."""
        places, current = interval.places, interval.current
        frames: dict[Fraction, Frame] = {}
        wanted = sorted({t for t in places.times if t > 0})
        if wanted and interval.previous is not None:
            moments = wanted if places.next_t is None else [*wanted, places.next_t]
            steps: list[Step] = []
            for first in range(0, len(moments), MOST_TIMES):
                times = tuple(map(float, moments[first : first + MOST_TIMES]))
                steps += (await self._predict(interval.previous, current, times)).steps
            if places.next_t is None or await asyncio.to_thread(_leads_on, steps[-1].frame, interval):
                frames = {t: step.frame for t, step in zip(wanted, steps, strict=False) if not step.is_cut}
        return [
            (Timed(frames.get(t, current), number, 1), t in frames)
            for number, t in zip(places.numbers, places.times, strict=True)
        ]


def _leads_on(predicted: Frame, interval: _Interval) -> bool:
    """Tell whether motion went on while nothing came: the prediction is nearer to what came then than what stood."""
    if interval.following is None:
        return True
    truth = interval.following.pixels.astype(np.int16)
    errors = [
        float(np.mean(np.square(truth - frame.pixels, dtype=np.int32))) for frame in (predicted, interval.current)
    ]
    return errors[0] < errors[1]
