"""Which predictor a stream goes over to: on differences of the same frames, and not for luck."""

from __future__ import annotations

import numpy as np
import pytest

from service.core.timings import Timings
from service.core.types import Frame, Method, Options, PredictResult, Quality, Step
from service.serving.streaming.predictor_choice import (
    NEEDED,
    REMEMBERED,
    TRIED_FIRST,
    TRIED_LATER,
    PairedScore,
    PredictorChoice,
    StreamPredictor,
    available,
)

FLOW, LIVE, NETWORK = StreamPredictor.FLOW, StreamPredictor.LIVE, StreamPredictor.NETWORK


def test_what_a_device_serves_may_be_chosen_its_default_first() -> None:
    assert available((Method.DMVFN,), Method.DMVFN, is_adaptive=False) == (NETWORK,)
    methods = (Method.DMVFN, Method.FLOW, Method.MIX)
    assert available(methods, Method.FLOW, is_adaptive=False) == (FLOW, NETWORK, StreamPredictor.MIX, LIVE)
    options = LIVE.options(Options(times=(2.0,)), Method.FLOW)
    assert (options.method, options.quality, options.times) == (Method.FLOW, Quality.FAST, (2.0,))
    assert NETWORK.options(Options(), Method.FLOW).method is Method.DMVFN


@pytest.mark.parametrize("default", [Method.DMVFN, Method.FLOW])
def test_an_adaptive_stream_keeps_every_way_to_be_in_time(default: Method) -> None:
    predictors = available((Method.DMVFN, Method.FLOW, Method.MIX), default, is_adaptive=True)
    options = [predictor.options(Options(quality=Quality.ADAPTIVE), default) for predictor in predictors]
    assert all(each.allows_live for each in options)
    assert len(options) == (1 if default is Method.FLOW else 2)


def test_the_others_are_tried_in_turn_often_at_first_and_seldom_later() -> None:
    choice = PredictorChoice((NETWORK, FLOW, LIVE))
    tried = [choice.trial() for _ in range(4 * TRIED_FIRST)]
    assert [other for other in tried if other] == [FLOW, LIVE, FLOW, LIVE]
    for other in (FLOW, LIVE):
        for _ in range(NEEDED):
            assert not choice.compared(other, -1.0)
    assert [choice.trial() for _ in range(TRIED_LATER - 1)] == [None] * (TRIED_LATER - 1)
    assert choice.trial() is FLOW
    assert PredictorChoice((NETWORK,)).trial() is None


def test_one_that_is_better_for_sure_takes_over_and_all_begins_anew() -> None:
    choice = PredictorChoice((NETWORK, FLOW, LIVE))
    taken = [choice.compared(FLOW, 1.0 + 0.1 * (number % 2)) for number in range(NEEDED)]
    assert taken == [False] * (NEEDED - 1) + [True]
    assert choice.current is FLOW
    assert not choice.compared(FLOW, 9.0), "what was tried before the change counts no more"
    assert not any(choice.compared(NETWORK, -1.0) for _ in range(NEEDED))


def test_noise_and_one_lucky_frame_change_nothing() -> None:
    noise = np.random.default_rng(1).normal(0.0, 1.0, 500)
    choice = PredictorChoice((NETWORK, FLOW))
    changes = sum(choice.compared(FLOW if choice.current is NETWORK else NETWORK, value) for value in noise)
    assert changes <= len(noise) / 20
    choice = PredictorChoice((NETWORK, FLOW))
    assert not any(choice.compared(FLOW, value) for value in [0.0] * REMEMBERED + [50.0])


def test_both_are_compared_with_the_same_frame_whenever_it_comes() -> None:
    score, frames = PairedScore(), [Frame(np.full((8, 8, 3), value, np.uint8)) for value in (0, 10, 20, 30, 40)]

    def result(value: int) -> PredictResult:
        step = Step(Frame(np.full((8, 8, 3), value, np.uint8)), (), 0, method=Method.FLOW)
        return PredictResult("r", (step,), "v", Timings())

    for number in (0, 1):
        assert score.arrived(number, None, frames[number], begins_pair=number == 0) is None
    assert score.predicted((1, None, None), frames[1], result(22), result(21), FLOW) == []
    compared = score.arrived(2, None, frames[2], begins_pair=False)
    assert compared is not None
    assert (compared[0], round(compared[1], 2)) == (FLOW, round(20 * np.log10(2), 2))
    score.arrived(3, None, frames[3], begins_pair=False)
    ((other, difference),) = score.predicted((2, None, None), frames[2], result(31), result(34), LIVE)
    assert (other, round(difference, 2)) == (LIVE, -round(20 * np.log10(4), 2))
    assert score.arrived(4, None, frames[4], begins_pair=True) is None
