"""What a deadline means for the order of waiting requests."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import deadline
from service.core.errors import InvalidRequest
from service.core.types import Priority

moments = st.floats(0, 1e6)
budgets = st.floats(0.001, 1000)


def test_a_caller_that_states_no_deadline_gets_the_default() -> None:
    assert deadline.resolve(10.0, None, default_ms=1500, max_ms=60_000, field="deadline_ms") == 11.5


def test_a_stated_deadline_counts_from_now() -> None:
    assert deadline.resolve(10.0, 250, default_ms=1500, max_ms=60_000, field="deadline_ms") == 10.25


@pytest.mark.parametrize("asked", [0, -1, 60_001, math.nan, math.inf])
def test_a_deadline_that_makes_no_sense_is_refused_by_name(asked: float) -> None:
    with pytest.raises(InvalidRequest) as refused:
        deadline.resolve(10.0, asked, default_ms=1500, max_ms=60_000, field="deadline_ms")
    assert refused.value.field == "deadline_ms"


@given(st.floats(0, math.inf), st.floats(0, math.inf))
def test_live_work_goes_before_batch_work_whatever_their_budgets(live: float, batch: float) -> None:
    first = deadline.deadline_class(Priority.LIVE, live)
    second = deadline.deadline_class(Priority.BACKGROUND, batch)
    assert 0 <= first < second < deadline.CLASSES


def test_budgets_within_a_factor_of_two_share_a_class() -> None:
    classes = [deadline.deadline_class(Priority.LIVE, budget) for budget in (0.13, 0.2, 0.26, 0.4, 30.0)]
    assert classes[0] == classes[1] < classes[2] == classes[3] < classes[4]


def test_the_noise_of_subtracting_times_does_not_change_a_class() -> None:
    classes = {deadline.deadline_class(Priority.LIVE, (now + 0.5) - now) for now in (0.0, 0.1, 1234.56789, 1e6 / 7)}
    assert len(classes) == 1


@given(moments, budgets, budgets)
def test_of_two_that_came_together_the_earlier_deadline_goes_first(now: float, one: float, other: float) -> None:
    first, second = sorted((one, other))
    assert deadline.urgency(now, now + first, 0.0) <= deadline.urgency(now, now + second, 0.0)


def test_waiting_lets_a_patient_request_overtake_fresh_urgent_ones() -> None:
    patient = deadline.urgency(0.0, 30.0, 0.0)
    assert deadline.urgency(14.0, 15.0, 0.0) < patient < deadline.urgency(15.0, 16.0, 0.0)


def test_requests_without_a_deadline_keep_their_order_of_arrival() -> None:
    assert deadline.urgency(1.0, math.inf, 0.0) < deadline.urgency(2.0, math.inf, 0.0) < math.inf
