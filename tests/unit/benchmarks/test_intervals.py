"""Intervals of shares and quantiles: known values, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers import intervals
from benchmarks.peers.intervals import PARTS

EVEN = [number % PARTS for number in range(100)]


def test_parts_are_equal_stretches_of_a_run() -> None:
    assert [intervals.part_of(at, 60.0) for at in (0.0, 5.9, 6.0, 59.9, 60.0)] == [0, 0, 1, 9, 9]


def test_a_share_that_all_parts_have_alike_is_wilsons() -> None:
    """Of 100, 90 in time, nine in each part: with z = 2.2622 Wilson's interval is 0.8115 to 0.9495."""
    estimate = intervals.share([number >= 10 for number in range(100)], EVEN)
    assert estimate.value == 0.9
    assert (estimate.low, estimate.high) == pytest.approx((0.8115, 0.9495), abs=5e-5)


def test_all_in_time_still_leaves_room_for_a_miss() -> None:
    """The plain interval would be 1 to 1; Wilson's begins at n / (n + z^2)."""
    estimate = intervals.share([True] * 100, EVEN)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, pytest.approx(100 / (100 + 2.2622**2)), 1.0)


def test_parts_that_differ_make_an_interval_wider() -> None:
    """The same 90 of 100, with all misses in one part: its requests are as good as one."""
    alike = intervals.share([number >= 10 for number in range(100)], EVEN)
    apart = intervals.share([part != 0 for part in EVEN], EVEN)
    assert apart.value == alike.value
    # Variance 10/9 * (9^2 + 9 * 1^2) / 100^2 = 0.01 against 0.9 * 0.1 / 100: each counts for 0.09.
    assert (apart.low, apart.high) == pytest.approx(intervals._wilson(0.9, 9.0))
    assert apart.low is not None
    assert alike.low is not None
    assert apart.low < alike.low


def test_a_quantile_lies_between_those_at_the_ends_of_its_shares_interval() -> None:
    values = [float(number) for number in range(1, 101)]
    low, high = intervals._wilson(0.5, 100.0)
    estimate = intervals.quantile(values, EVEN, 0.5)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((50.5, 1 + 99 * low, 1 + 99 * high))


@pytest.mark.parametrize(("count", "bounded"), [(367, False), (368, True)])
def test_p99_has_an_upper_bound_from_368_requests_on(count: int, bounded: bool) -> None:
    """0.99^368 is just under 2.5 percent: with fewer, all may lie below it."""
    parts = [number % PARTS for number in range(count)]
    values = [float(number // PARTS) for number in range(count)]
    estimate = intervals.quantile(values, parts, 0.99)
    assert (estimate.high is not None) == bounded


def test_none_at_all_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no share"):
        intervals.share([], [])
    with pytest.raises(ValueError, match="no quantile"):
        intervals.quantile([], [], 0.5)


@pytest.mark.parametrize("tied", [1, 12], ids=["each for itself", "a part together"])
def test_intervals_hold_the_truth_nearly_always(tied: int) -> None:
    """Of 400 made-up runs, 120 requests each: independent, or with bursts that are late together (share and median)."""
    chance = np.random.default_rng(7)
    parts = [number // 12 for number in range(120)]
    shares = medians = 0
    for _ in range(400):
        late = np.repeat(chance.random(120 // tied) < 0.3, tied)
        share = intervals.share([not each for each in late], parts)
        shares += share.low is not None and share.high is not None and share.low <= 0.7 <= share.high
        took = np.repeat(chance.exponential(1.0, 120 // tied), tied).tolist()
        median = intervals.quantile(took, parts, 0.5)
        low, high = median.low, median.high
        medians += (low is None or low <= np.log(2)) and (high is None or np.log(2) <= high)
    assert min(shares, medians) >= 0.93 * 400
