"""Clips at another rate, and with lost frames found and replaced: exact moments and pictures of linear motion."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from service.core.timings import Timings
from service.core.types import Frame, PredictResult, Step
from service.serving.video.clip import Info, Item, Timed, VideoError
from service.serving.video.duplicates import DuplicateFinder
from service.serving.video.retimed_frames import RetimedSource, RetimingParams, retimed_frames
from service.serving.video.retiming import OutputPlaces, Retimer, rate
from tests.unit.rpc.small import carried

MS = Fraction(1, 1000)


def places(retimer: Retimer, moments: Sequence[Fraction], cuts: Sequence[int] = ()) -> list[OutputPlaces]:
    pushed = [retimer.push(moment, is_cut=place in cuts) for place, moment in enumerate(moments)]
    return pushed[1:]


def test_24_frames_a_second_to_60_are_two_fifths_apart() -> None:
    retimer = Retimer(Fraction(60), Fraction(24), conceal=False)
    moved = places(retimer, [Fraction(number, 24) for number in range(4)])
    assert [place.numbers for place in moved] == [range(3), range(3, 5), range(5, 8)]
    fifth = Fraction(1, 5)
    assert [place.times for place in moved] == [(0 * fifth,) * 3, (fifth, 3 * fifth), (0 * fifth, 2 * fifth, 4 * fifth)]
    assert retimer.end(Fraction(1, 24)) == OutputPlaces(range(8, 10), fifth, 2 * fifth)


def test_a_rate_of_60000_over_1001_keeps_its_grid_exactly() -> None:
    retimer = Retimer(rate("60000/1001"), Fraction(30000, 1001), conceal=False)
    moved = places(retimer, [Fraction(1001 * number, 30000) for number in range(1, 5)])
    assert [place.times for place in moved[1:]] == [(Fraction(0), Fraction(1, 2))] * 2
    assert [place.numbers for place in moved] == [range(2, 4), range(4, 6), range(6, 8)]


def test_a_frame_after_a_cut_is_shown_until_its_scene_has_two() -> None:
    retimer = Retimer(Fraction(20), Fraction(10), conceal=False)
    moved = places(retimer, [Fraction(number, 10) for number in range(5)], cuts=(2,))
    assert [[float(t) for t in place.times] for place in moved] == [[0, 0], [0, 0.5], [0, 0], [0, 0.5]]


def test_a_pause_stays_one_and_uneven_frames_come_out_even() -> None:
    retimer = Retimer(Fraction(10), Fraction(10), conceal=False)
    moved = places(retimer, [0 * MS, 80 * MS, 220 * MS, 900 * MS])
    assert [[float(t) for t in place.times] for place in moved] == [[0], [0.25, 1.5], [0] * 6]


def test_lost_frames_are_to_be_predicted_and_judged_by_what_came() -> None:
    retimer = Retimer(Fraction(10), Fraction(10), conceal=True)
    moved = places(retimer, [Fraction(number, 10) for number in (0, 1, 4, 5, 30)])
    assert moved[1] == OutputPlaces(range(1, 4), Fraction(0), Fraction(1), Fraction(3))
    assert moved[3].next_t is None  # 24 in a row are no loss
    assert set(moved[3].times) == {0}


def test_a_pause_of_hours_takes_no_more_memory_than_one_of_seconds() -> None:
    """Its places are made in slices: a clip's times may lie as far apart as its container can write."""
    retimer = Retimer(Fraction(240), Fraction(10), conceal=False)
    (moved,) = places(retimer, [Fraction(0), Fraction(10**12)])
    assert moved.numbers == range(240 * 10**12)
    first, second = itertools.islice(moved.slices(16), 2)
    assert (first.numbers, second.numbers) == (range(16), range(16, 32))
    assert set(second.times) == {0}


@pytest.mark.parametrize("text", ["0", "1/0", "x", "241", "-5", "1e3", "60000/1001/2"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(VideoError):
        rate(text)


class _Clip:
    def __init__(
        self, values: Sequence[int], times: Sequence[int], fps: int | Fraction = 10, duration: int = 100
    ) -> None:
        self.info = Info(48, 32, Fraction(fps), MS, len(values))
        self._items = [Timed(_grey(value), time, duration) for value, time in zip(values, times, strict=True)]

    def __iter__(self) -> object:
        return iter(self._items)

    def close(self) -> None:
        """Do nothing."""


def _grey(value: int) -> Frame:
    """A ramp that shifts in brightness: no two values are alike anywhere."""
    ramp = np.linspace(0, 60, 48, dtype=np.uint8)
    return Frame(np.ascontiguousarray(np.broadcast_to((ramp + value)[None, :, None], (32, 48, 3)).astype(np.uint8)))


async def _linear(previous: Frame, current: Frame, times: tuple[float, ...]) -> PredictResult:
    steps = tuple(Step(Frame(carried(previous.pixels, current.pixels, t)), (), 0, t=t) for t in times)
    return PredictResult("r", steps, "v", Timings(0, 0, 0))


async def _retimed(clip: _Clip, params: RetimingParams) -> list[tuple[int, int, bool]]:
    items: list[tuple[Item, bool]] = [output async for output in retimed_frames(clip, params, _linear)]  # type: ignore[arg-type]
    return [
        (item.pts, int(item.frame.pixels[0, 0, 0]), predicted) for item, predicted in items if isinstance(item, Timed)
    ]


async def test_a_clip_at_twice_its_rate_has_what_lies_between() -> None:
    outputs = await _retimed(_Clip([0, 10, 20, 30], [0, 100, 200, 300]), RetimingParams(Fraction(20)))
    assert outputs == [
        *((0, 0, False), (1, 0, False), (2, 10, False), (3, 15, True)),
        *((4, 20, False), (5, 25, True), (6, 30, False), (7, 35, True)),
    ]
    source = RetimedSource(_Clip([0] * 4, range(4)), RetimingParams(Fraction(20)))  # type: ignore[arg-type]
    assert (source.info.rate, source.info.time_base) == (Fraction(20), Fraction(1, 20))
    assert source.info.frames == 8


@pytest.mark.parametrize("duration", [0, 2, 100])
async def test_a_pause_makes_the_last_frame_no_longer(duration: int) -> None:
    """A film of 2.2 s whose frames stay for 0.55 s on average, by a pause: its last one stays as the one before."""
    clip = _Clip([0, 10, 20, 30], [0, 100, 2000, 2100], Fraction(20, 11), duration)
    outputs = await _retimed(clip, RetimingParams(Fraction(10)))
    assert [(number, value) for number, value, _ in outputs[-2:]] == [(20, 20), (21, 30)]


async def test_the_last_frame_of_an_uneven_clip_stays_as_long_as_it_says() -> None:
    """Frames of 0.1 s, then of 0.3 s and a last one of 0.1 s again: it stayed for the mean, two places more."""
    times = [*range(0, 1000, 100), *range(1000, 4000, 300)]
    clip = _Clip([7 * k for k in range(20)], times, Fraction(100, 17))
    clip.info = replace(clip.info, densest=Fraction(10))
    outputs = await _retimed(clip, RetimingParams(Fraction(25)))
    assert (times[-1], outputs[-1][0], len(outputs)) == (3700, 94, 95)  # 3.8 s


async def test_repeated_and_dropped_frames_are_found_and_replaced() -> None:
    """Frame 3 repeats frame 2, though motion went on; frame 6 was dropped: its time is empty."""
    values, numbers = [0, 10, 20, 20, 40, 50, 70, 80], [0, 1, 2, 3, 4, 5, 7, 8]
    clip = _Clip(values, [100 * number for number in numbers])
    outputs = await _retimed(clip, RetimingParams(conceal=True))
    assert outputs == [(n, 10 * n, n in (3, 6)) for n in range(9)]


async def test_no_prediction_has_more_than_sixteen_moments_and_all_come_in_order() -> None:
    """A slice of an interval is judged by the next frame, as the whole would be."""
    asked: list[int] = []

    async def counted(previous: Frame, current: Frame, times: tuple[float, ...]) -> PredictResult:
        asked.append(len(times))
        return await _linear(previous, current, times)

    clip = _Clip([0, 4, 8, 20, 24], [0, 100, 200, 500, 600])
    params = RetimingParams(Fraction(100), conceal=True)
    outputs = [output async for output in retimed_frames(clip, params, counted)]  # type: ignore[arg-type]
    assert [item.pts for item, _ in outputs if isinstance(item, Timed)] == list(range(70))
    assert max(asked) <= 16
    (lost,) = [item for item, _ in outputs if isinstance(item, Timed) and item.pts == 45]
    assert int(lost.frame.pixels[0, 0, 0]) == 18


async def test_no_more_frames_are_predicted_ahead_than_a_clip_is_counted_with() -> None:
    """Of what was begun, no more is unshown than two predictions of sixteen moments."""
    params, unshown, most = RetimingParams(Fraction(150)), 0, 0

    async def counted(previous: Frame, current: Frame, times: tuple[float, ...]) -> PredictResult:
        nonlocal unshown, most
        unshown += len(times)
        most = max(most, unshown)
        return await _linear(previous, current, times)

    clip = _Clip([10 * number for number in range(12)], [100 * number for number in range(12)])
    async for _, is_prediction in retimed_frames(clip, params, counted):  # type: ignore[arg-type]
        unshown -= is_prediction
    assert unshown == 0
    assert most <= params.frames_held(1)


async def test_a_scene_that_stood_still_is_not_moved() -> None:
    """Motion stops for two frames and goes on from there: what is predicted is farther off than what stood."""
    clip = _Clip([0, 10, 20, 20, 20, 30, 40], [100 * number for number in range(7)])
    outputs = await _retimed(clip, RetimingParams(conceal=True))
    assert [value for _, value, _ in outputs] == [0, 10, 20, 20, 20, 30, 40]
    assert not any(predicted for _, _, predicted in outputs)


def test_what_ffmpeg_calls_a_duplicate_is_one() -> None:
    finder = DuplicateFinder()
    frames = [_grey(value) for value in (0, 0, 0, 20, 21, 21, 60)]
    assert [finder.is_duplicate(frame) for frame in frames] == [False, True, True, False, False, True, False]
