"""What a bucket gives in any order of requests and at any times: never more than it may, and no less."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.core.quota import GFLOP, REQUESTS, Quota, limit_field, policy_field
from service.core.token_bucket import LEAST, Allowance, BucketLevel, Demand, take

ALLOWANCES = st.builds(Allowance, st.floats(1, 1000), st.floats(0.01, 100))
PAUSES = st.lists(st.floats(0, 20), min_size=1, max_size=40)


def _taken(allowance: Allowance, pauses: list[float], cost: float = 1.0) -> list[float]:
    """When something was taken, of one who tries after each pause."""
    level, now, times = None, 100.0, []
    for pause in pauses:
        now += pause
        (level,), wait = take([Demand(allowance, level, cost)], now)
        if wait == 0:
            times.append(now)
    return times


@given(ALLOWANCES, PAUSES)
def test_within_any_time_no_more_is_taken_than_the_burst_and_what_flowed_in(
    allowance: Allowance, pauses: list[float]
) -> None:
    times = _taken(allowance, pauses)
    for first in range(len(times)):
        for last in range(first, len(times)):
            room = allowance.capacity + (times[last] - times[first]) * allowance.per_second
            assert last - first + 1 <= room + 1e-6


@given(ALLOWANCES, PAUSES)
def test_after_the_time_that_a_refusal_tells_it_is_taken(allowance: Allowance, pauses: list[float]) -> None:
    level, now = None, 0.0
    for pause in pauses:
        now += pause
        (level,), wait = take([Demand(allowance, level, 1.0)], now)
        if wait > 0:
            (level,), again = take([Demand(allowance, level, 1.0)], now + wait + 1e-6)
            now += wait + 1e-6
            assert again == 0


@given(ALLOWANCES, st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5000)), min_size=1, max_size=40))
def test_what_is_charged_afterwards_is_paid_back_before_more_is_taken(
    allowance: Allowance, requests: list[tuple[float, float]]
) -> None:
    """Over a long time nobody has more than the allowance, whatever single predictions cost: but for the last one."""
    level, now, sums = None, 0.0, [(0.0, 0.0)]
    for pause, cost in requests:
        now += pause
        (level,), wait = take([Demand(allowance, level, 0.0)], now)
        if wait == 0:
            sums.append((now, sums[-1][1] + cost))
            level = BucketLevel(level.tokens - cost, now)
    for (_, before), (time, _) in pairwise(sums):
        assert before <= allowance.capacity + time * allowance.per_second + 1e-6


def test_of_two_buckets_both_are_taken_from_or_neither() -> None:
    full, empty = BucketLevel(5.0, 0.0), BucketLevel(0.0, 0.0)
    allowance = Allowance(10, 0.5)
    levels, wait = take([Demand(allowance, full, 1.0), Demand(allowance, empty, 1.0)], 0.0)
    assert (levels, wait) == ((full, empty), 2.0)


@given(ALLOWANCES, st.floats(-1e6, 1e3), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_clock_that_jumps_back_takes_nothing_and_gives_nothing(
    allowance: Allowance, tokens: float, time: float, jump: float
) -> None:
    level = BucketLevel(min(tokens, allowance.capacity), time)
    assert Demand(allowance, level, 0.0).filled(time - jump).tokens == level.tokens


def test_the_fields_say_what_is_allowed_and_what_is_left() -> None:
    quotas = (
        Quota(REQUESTS, Allowance(10, 2), BucketLevel(7.9, 0.0)),
        Quota(GFLOP, Allowance(5e15, 5e13), BucketLevel(-1e14, 0.0)),
    )
    assert policy_field(quotas) == '"requests";q=10;w=5, "gflop";q=999999999999999;w=100;qu="gflop"'
    # Of what is used up: until the next one is taken.
    assert limit_field(quotas) == '"requests";r=7;t=2, "gflop";r=0;t=3'
    assert LEAST == 1
