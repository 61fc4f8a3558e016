"""The answer of a front end alone: by what is left of the time, and how much of it is kept."""

from __future__ import annotations

import numpy as np

from service.core.substitute import Substitute
from service.core.types import Frame, Method, Options, PredictRequest, Quality
from service.distributed.frontend.last_way import FIRST_S, MARGIN_S, MOST_LATE_S, MOST_MAKING_S, REMEMBERED, LastWay
from tests.unit.core.test_panning import scene


class Clock:
    """Goes on by `step` seconds with every look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def pair(options: Options) -> PredictRequest:
    return PredictRequest("r", scene(64, 96, 0, 0), scene(64, 96, 3, 1), options)


def test_with_time_the_last_frame_is_moved_as_the_picture_moves() -> None:
    request = pair(Options(quality=Quality.ADAPTIVE, times=(1.0, 2.5)))
    result = LastWay(Clock()).answer(request, "v1", planned=100.0, deadline=100.1)
    assert (result.id, result.model_version, result.method) == ("r", "v1", Method.FLOW)
    assert Substitute.of(result) is Substitute.PANNED
    assert result.times == (1.0, 2.5)
    for step, (x, y) in zip(result.steps, ((6, 2), (11, 3)), strict=True):  # half a pixel goes to the even one
        truth = scene(64, 96, x, y).pixels
        assert np.array_equal(step.frame.pixels[y:, x:], truth[y:, x:])


def test_without_time_it_is_shown_as_it_is() -> None:
    request = pair(Options(quality=Quality.ADAPTIVE, steps=2))
    result = LastWay(Clock()).answer(request, "v1", planned=100.0, deadline=100.0 + MARGIN_S + FIRST_S / 2)
    assert Substitute.of(result) is Substitute.REPEATED
    assert [step.frame for step in result.steps] == [request.current] * 2
    assert result.times == (1, 2)


def test_what_it_takes_is_learnt_by_size_and_within_limits() -> None:
    clock, options = Clock(), Options(quality=Quality.ADAPTIVE)
    way, request = LastWay(clock), pair(options)
    small = request.current
    assert FIRST_S < way.reserve(small) - MARGIN_S < 1.01 * FIRST_S
    clock.step = 0.0005
    for _ in range(REMEMBERED):
        way.answer(request, "v", planned=clock.now + clock.step, deadline=clock.now + 1)
    assert abs(way.reserve(small) - MARGIN_S - 0.0005) < 1e-9
    other = Frame(np.zeros((1080, 1920, 3), np.uint8))
    assert way.reserve(other) - MARGIN_S > FIRST_S, "another size is another matter"
    clock.step = 7.0  # a machine that stood still
    way.answer(request, "v", planned=clock.now, deadline=clock.now + 100)
    assert abs(way.reserve(small) - MARGIN_S - MOST_LATE_S - MOST_MAKING_S) < 1e-9
    clock.step = 0.0005
    for _ in range(REMEMBERED):
        way.answer(request, "v", planned=clock.now + clock.step, deadline=clock.now + 100)
    assert abs(way.reserve(small) - MARGIN_S - 0.0005) < 1e-9, "and forgotten again"
