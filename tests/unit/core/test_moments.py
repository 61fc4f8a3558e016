"""Moments t: read from texts, JSON and numbers, and kept within bounds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from service.core import moments
from service.core.errors import InvalidRequest
from service.core.timings import Timings
from service.core.types import Frame, Options, PredictResult, Step


@pytest.mark.parametrize(
    ("value", "times"),
    [("0.5", (0.5,)), ("0.5, 1,2.75", (0.5, 1, 2.75)), (2, (2,)), ([0.5, 3], (0.5, 3)), ("16,0.000001", (16, 1e-6))],
)
def test_moments_are_read_and_written_again(value: object, times: tuple[float, ...]) -> None:
    assert moments.of_json(value) == times
    assert moments.read(",".join(map(moments.text, times))) == times
    assert Options.parse(times=times).check(16).frames == len(times)


@pytest.mark.parametrize("value", ["", "a", "1,", "-1", "1e3", "nan", [], [True], [[1]], None, {}, math.nan, [10**400]])
def test_what_is_no_moment_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^t must be") as refused:
        moments.of_json(value)
    assert refused.value.field == "t"


@pytest.mark.parametrize("times", [(0.0,), (8.01,), (0.5, -1.0), (1.0,) * 9])
def test_moments_lie_within_what_is_served(times: tuple[float, ...]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Options(times=times).check(8)
    assert refused.value.field == "t"


def test_steps_and_moments_exclude_each_other() -> None:
    with pytest.raises(InvalidRequest, match=r"^steps means nothing with t$") as refused:
        Options.parse(steps=2, times=(0.5,))
    assert refused.value.field == "steps"


@pytest.mark.parametrize(
    ("options", "frames", "work"),
    [
        (Options(), 1, 1.0),
        (Options(steps=3), 3, 3.0),
        (Options(times=(4,)), 1, 1.0),
        (Options(times=(1, 2, 3)), 3, 1.12),
    ],
)
def test_frames_and_the_passes_that_they_take(options: Options, frames: int, work: float) -> None:
    assert options.frames == frames
    assert options.work == pytest.approx(work)


def test_an_answer_says_when_its_frames_are_shown() -> None:
    frame = Frame(np.zeros((2, 2, 3), np.uint8))
    rolled = PredictResult("r", (Step(frame, (), 1), Step(frame, (), 1)), "1", Timings())
    carried = dataclasses.replace(rolled, steps=(Step(frame, (), 1, t=2.5), Step(frame, (), 0, t=0.5)))
    assert (rolled.times, carried.times) == ((1, 2), (2.5, 0.5))
    assert not carried.is_cut
