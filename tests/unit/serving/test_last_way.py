"""The answer without an engine: by what is left of the time, how much of it is kept, and who is asked first."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import DeadlineExceeded, QueueFull, ServiceError
from service.core.lateness import KEPT_S
from service.core.size_seconds import REMEMBERED
from service.core.substitute import Substitute
from service.core.types import Frame, Method, Options, PredictRequest, PredictResult, Quality
from service.serving.last_way import (
    FIRST_S,
    MARGIN_S,
    MOST_LATE_S,
    MOST_MAKING_S,
    SPARE_S,
    LastWay,
    NeverLateEngine,
)
from service.telemetry.metrics import Metrics
from tests.unit.core.test_panning import scene
from tests.unit.rpc.small import SmallEngine

ADAPTIVE = Options(quality=Quality.ADAPTIVE)
#: Seconds that the engine leaves beyond what was learnt.
LEFT_S = MARGIN_S + SPARE_S


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
    result = LastWay(Clock()).answer(request, "v1", due=100.0, deadline=100.1)
    assert (result.id, result.model_version, result.method) == ("r", "v1", Method.FLOW)
    assert Substitute.of(result) is Substitute.PANNED
    assert result.times == (1.0, 2.5)
    for step, (x, y) in zip(result.steps, ((6, 2), (11, 3)), strict=True):  # half a pixel goes to the even one
        truth = scene(64, 96, x, y).pixels
        assert np.array_equal(step.frame.pixels[y:, x:], truth[y:, x:])


def test_without_time_it_is_shown_as_it_is() -> None:
    request = pair(Options(quality=Quality.ADAPTIVE, steps=2))
    result = LastWay(Clock()).answer(request, "v1", due=100.0, deadline=100.0 + MARGIN_S + FIRST_S / 2)
    assert Substitute.of(result) is Substitute.REPEATED
    assert [step.frame for step in result.steps] == [request.current] * 2
    assert result.times == (1, 2)


def test_what_it_takes_is_learnt_by_size_and_within_limits() -> None:
    clock, options = Clock(), Options(quality=Quality.ADAPTIVE)
    way, request = LastWay(clock), pair(options)
    assert FIRST_S < way.reserve(request, 60) - LEFT_S < 1.1 * FIRST_S
    assert way.reserve(request, 0.003) == MARGIN_S, "of little time the engine gets all but the way out"
    clock.step = 0.0005
    for _ in range(REMEMBERED):
        way.answer(request, "v", due=clock.now + clock.step, deadline=clock.now + 1)
    assert abs(way.reserve(request, 60) - LEFT_S - 0.0005) < 1e-9
    large = Frame(np.zeros((1080, 1920, 3), np.uint8))
    others = PredictRequest("r", large, large, options), pair(Options(quality=Quality.ADAPTIVE, steps=16))
    assert all(way.reserve(other, 60) - LEFT_S > FIRST_S for other in others), "other sizes are another matter"
    clock.step = 7.0  # a machine that stands still
    way.answer(request, "v", due=clock.now, deadline=clock.now + 100)
    kept = way.reserve(request, 60) - LEFT_S
    assert abs(kept - MOST_LATE_S - 0.0005) < 1e-9, "one late beginning counts, one slow try does not"
    for _ in range(REMEMBERED):
        way.answer(request, "v", due=clock.now, deadline=clock.now + 100)
    assert abs(way.reserve(request, 60) - LEFT_S - MOST_LATE_S - MOST_MAKING_S) < 1e-9
    clock.step, clock.now = 0.0005, clock.now + KEPT_S + 1
    for _ in range(REMEMBERED):
        way.answer(request, "v", due=clock.now + clock.step, deadline=clock.now + 100)
    assert abs(way.reserve(request, 60) - LEFT_S - 0.0005) < 1e-9, "and forgotten after a while"


def test_one_late_answer_is_allowed_for_long_after_sixteen_others() -> None:
    """With the latest of sixteen one of seventeen was later than that; 99.9 % in time was out of reach."""
    clock = Clock(0.0005)
    way, request = LastWay(clock), pair(ADAPTIVE)
    for number in range(200):
        due = clock.now + clock.step - (0.006 if number == 20 else 0.0)
        way.answer(request, "v", due=due, deadline=clock.now + 1)
    assert way.reserve(request, 60) == pytest.approx(LEFT_S + 0.0005 + 0.006)


def test_a_pan_is_not_begun_where_others_took_longer_than_is_left() -> None:
    clock = Clock(0.001)
    way, request = LastWay(clock), pair(ADAPTIVE)
    for _ in range(REMEMBERED):
        way.answer(request, "v", due=clock.now + clock.step, deadline=clock.now + 1)
    left = MARGIN_S + 0.0015
    panned = way.answer(request, "v", due=clock.now, deadline=clock.now + clock.step + left)
    clock.step = 0.004  # the machine has taken its turn away once
    way.answer(request, "v", due=clock.now, deadline=clock.now + 1)
    repeated = way.answer(request, "v", due=clock.now, deadline=clock.now + clock.step + left)
    assert [Substitute.of(panned), Substitute.of(repeated)] == [Substitute.PANNED, Substitute.REPEATED]


class _Late(SmallEngine):
    """Takes until `seconds` of its clock are over, or refuses with `refusal`; keeps the deadlines it was given."""

    def __init__(self, clock: Clock, seconds: float = 0.0, refusal: ServiceError | None = None) -> None:
        super().__init__()
        self.clock, self.seconds, self.refusal = clock, seconds, refusal
        self.left: list[float] = []
        self.covered: list[bool] = []

    async def predict(self, request: PredictRequest) -> PredictResult:
        if self.refusal is not None:
            raise self.refusal
        assert request.deadline is not None
        self.left.append(round(request.deadline - self.clock.now, 6))
        self.covered.append(request.is_covered)
        if self.clock.now + self.seconds > request.deadline:
            self.clock.now = max(self.clock.now, request.deadline)
            raise DeadlineExceeded("late")
        self.clock.now += self.seconds
        return await super().predict(request)


def joined(engine: _Late) -> tuple[NeverLateEngine, Metrics]:
    metrics = Metrics(CollectorRegistry())
    return NeverLateEngine(engine, metrics, engine.clock), metrics


def asked(seconds: float, options: Options = ADAPTIVE) -> PredictRequest:
    return PredictRequest("r", scene(64, 96, 0, 0), scene(64, 96, 3, 1), options, 100.0 + seconds)


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [(0.001, Substitute.REPEATED), (0.003, Substitute.REPEATED), (0.008, Substitute.PANNED), (0.03, Substitute.PANNED)],
)
async def test_an_adaptive_request_is_answered_by_its_deadline_whatever_it_is(seconds: float, kind: Substitute) -> None:
    engine = _Late(Clock(), seconds=60.0)
    never_late, metrics = joined(engine)
    result = await never_late.predict(asked(seconds))
    assert engine.clock.now < 100.0 + seconds
    assert (Substitute.of(result), result.model_version) == (kind, "small-1")
    assert all(engine.covered), "its being late is nobody's miss"
    labels = {"kind": kind.value}
    assert metrics.registry.get_sample_value("dmvfn_adaptive_substitutes_total", labels) == 1.0


async def test_what_is_refused_for_its_time_alone_is_answered_at_once() -> None:
    never_late, _ = joined(_Late(Clock(), refusal=DeadlineExceeded("cannot be met", reason="unmeetable")))
    assert Substitute.of(await never_late.predict(asked(0.004))) is Substitute.PANNED
    never_late, _ = joined(_Late(Clock(), refusal=QueueFull("full")))
    with pytest.raises(QueueFull):
        await never_late.predict(asked(0.004))


async def test_an_engine_that_is_in_time_answers_itself() -> None:
    engine = _Late(Clock(), seconds=0.001)
    never_late, _ = joined(engine)
    assert not (await never_late.predict(asked(0.003))).shortened
    assert engine.left == [0.002]


@pytest.mark.parametrize("options", [Options(), Options.parse(blocks=2, quality=Quality.ADAPTIVE)])
async def test_who_asks_for_more_than_the_time_allows_is_told_so(options: Options) -> None:
    engine = _Late(Clock(), seconds=60.0)
    never_late, _ = joined(engine)
    with pytest.raises(DeadlineExceeded):
        await never_late.predict(asked(0.03, options))
    assert (engine.left, engine.covered) == ([0.03], [False])
    with pytest.raises(DeadlineExceeded):
        await never_late.predict(asked(-0.001))
