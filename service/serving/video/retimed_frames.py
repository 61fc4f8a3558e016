"""Makes a clip of another rate, or one whose lost and repeated frames are predicted; runs what `retiming` decides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from service.core import scene_cut
from service.core.errors import Unsupported
from service.core.types import Frame, PredictResult
from service.serving.video.clip import ClipSource, Info, Item, Passed, Timed, VideoError
from service.serving.video.retiming import OutputPlaces, Retimer
from service.thread_work import run_to_end

#: Predictions under way at most.
UNDER_WAY = 4
#: Predicted places and packets of sound that wait for their turn.
WAITING = 256
#: The largest t of a prediction, and the most of them in one.
MOST_TIMES = 16

#: previous, current, moments -> the answer.
PredictMoments = Callable[[Frame, Frame, tuple[float, ...]], Awaitable[PredictResult]]
#: Frames with whether each was predicted.
Output = tuple[Item, bool]
Outputs = AsyncGenerator[Output, None]


@dataclass(frozen=True, slots=True)
class RetimingParams:
    """What is made of a clip. `fps`: None keeps the clip's own; `conceal`: replace lost and repeated frames."""

    fps: Fraction | None = None
    conceal: bool = False
    scene_cuts: bool = True

    def rate(self, info: Info) -> Fraction:
        """Return the frames a second of what comes out."""
        return self.fps or (info.densest if self.conceal and info.densest else info.rate)

    def shown(self, source: ClipSource) -> ClipSource:
        """Return what a sink sees of the clip."""
        return RetimedSource(source, self)

    def size(self, source: ClipSource) -> tuple[int, int]:
        """Return width and height of what is written."""
        return source.info.width, source.info.height

    def frames_held(self, steps: int) -> int:
        """Return the most frames that are held at once: those read, and the moments of predictions under way."""
        return 3 + (UNDER_WAY + 1) + 2 * MOST_TIMES


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


async def retimed_frames(source: ClipSource, params: RetimingParams, predict: PredictMoments) -> Outputs:
    """Yield what to write, in order, and whether it was predicted. The first error ends it, and all under way."""
    retiming, waiting = _Retiming(source, params, predict), deque[Passed | _UnderWay]()
    try:
        while (entry := await run_to_end(retiming.read)) is not None:
            # awaited: below, in order
            waiting.append(entry if isinstance(entry, Passed) else _UnderWay(entry, retiming.shown(entry)))
            while _is_enough(waiting):
                for output in await _outputs(waiting.popleft()):
                    yield output
        while waiting:
            for output in await _outputs(waiting.popleft()):
                yield output
    finally:
        tasks = [entry.outputs for entry in waiting if not isinstance(entry, Passed)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _UnderWay:
    """Places whose frames are being predicted, `moments` of them."""

    def __init__(self, interval: _Interval, outputs: Coroutine[None, None, list[Output]]) -> None:
        self.moments = sum(t > 0 for t in interval.places.times) + (interval.places.next_t is not None)
        self.outputs = asyncio.ensure_future(outputs)  # awaited: in order, by whoever shows them


def _is_enough(waiting: Collection[Passed | _UnderWay]) -> bool:
    """Tell whether the first must be shown before more is begun."""
    moments = [entry.moments for entry in waiting if not isinstance(entry, Passed)]
    return len(moments) > UNDER_WAY or sum(moments) > MOST_TIMES or len(waiting) > WAITING


async def _outputs(entry: Passed | _UnderWay) -> list[Output]:
    return [(entry, False)] if isinstance(entry, Passed) else await entry.outputs


@dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    """The places of one frame, what it follows, and the frame after."""

    places: OutputPlaces
    previous: Frame | None
    current: Frame
    following: Frame | None

    def slices(self) -> Iterator[_Interval]:
        """Yield the interval in parts whose places one prediction can fill."""
        most = MOST_TIMES if self.places.next_t is None else MOST_TIMES - 1
        for places in self.places.slices(most):
            yield replace(self, places=places)


class _Retiming:
    """Reads frames, and makes the places between them."""

    def __init__(self, source: ClipSource, params: RetimingParams, predict: PredictMoments) -> None:
        info = source.info
        self._items, self._base, self._params, self._predict = iter(source), info.time_base, params, predict
        nominal = info.densest if params.conceal and info.densest else info.rate
        self._retimer = Retimer(params.rate(info), nominal, conceal=params.conceal)
        self._interval = self._usual = 1 / nominal  #: `_usual`: how long a frame stays where nothing tells
        #: Durations from here on are believed of the last frame: some files say a thousandth of a second of each.
        self._shortest = 1 / (info.densest or nominal)
        self._finder = None
        if params.conceal:
            try:
                from service.serving.video.duplicates import DuplicateFinder  # PyAV, which y4m does not need otherwise
            except ImportError:
                raise Unsupported("finding lost frames needs PyAV, which is not installed", field="conceal") from None

            self._finder = DuplicateFinder()
        self._pair: tuple[Frame | None, Frame] | None = None
        self._thumbnail: scene_cut.Thumbnail | None = None
        self._last_end = Fraction(0)
        self._moment = Fraction(0)
        self._is_over = False
        self._slices: Iterator[_Interval] = iter(())

    def read(self) -> _Interval | Passed | None:
        """Return the next places, MOST_TIMES at most, or the next packet of sound; None at the end."""
        while (interval := next(self._slices, None)) is None:
            if self._is_over:
                return None
            item = next(self._items, None)
            if isinstance(item, Passed):
                return item
            whole = self._ended() if item is None else self._took(item)
            self._slices = iter(()) if whole is None else whole.slices()
        return interval

    def _ended(self) -> _Interval | None:
        self._is_over = True
        places = self._retimer.end(max(self._last_end - self._moment, min(self._usual, self._shortest)))
        return None if self._pair is None else _Interval(places, *self._pair, None)

    def _took(self, item: Timed) -> _Interval | None:
        moment = item.pts * self._base
        if self._pair is not None and moment > self._moment:
            # Of a clip with a pause, frames stay for seconds on average; its last one stays no longer than others do.
            self._usual = min(self._interval, moment - self._moment)
        self._last_end = moment + (item.duration * self._base or self._usual)
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
        """Return the frames of some of one interval's places."""
        places, current = interval.places, interval.current
        frames: dict[Fraction, Frame] = {}
        later_times = [t for t in places.times if t > 0]
        if later_times and interval.previous is not None:
            moments = later_times if places.next_t is None else [*later_times, places.next_t]
            steps = (await self._predict(interval.previous, current, tuple(map(float, moments)))).steps
            if places.next_t is None or await asyncio.to_thread(_leads_on, steps[-1].frame, interval):
                frames = {t: step.frame for t, step in zip(later_times, steps, strict=False) if not step.is_cut}
        return [
            (Timed(frames.get(t, current), number, 1), t in frames)
            for number, t in zip(places.numbers, places.times, strict=True)
        ]


def _leads_on(prediction: Frame, interval: _Interval) -> bool:
    """Tell whether motion went on while nothing came: the prediction is nearer to what came then than what stood."""
    if interval.following is None:
        return True
    truth = interval.following.pixels.astype(np.int16)
    errors = [
        float(np.mean(np.square(truth - frame.pixels, dtype=np.int32))) for frame in (prediction, interval.current)
    ]
    return errors[0] < errors[1]
