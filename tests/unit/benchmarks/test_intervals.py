"""Intervals of shares and quantiles: known values, and how often they hold the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.peers import intervals
from benchmarks.peers.intervals import PARTS

EVEN = [number % PARTS for number in range(100)]
#: Times that differ, but not from part to part.
TIMES = [0.1 + 0.01 * (number // PARTS % 2) for number in range(100)]


def test_parts_are_equal_stretches_of_a_run() -> None:
    assert [intervals.part_of(at, 60.0) for at in (0.0, 11.9, 12.0, 59.9, 60.0)] == [0, 0, 1, 4, 4]


def test_a_share_that_all_parts_have_alike_is_wilsons() -> None:
    """Of 100, 90 in time, 18 in each part: with z = 2.7764 Wilson's interval is 0.7840 to 0.9588."""
    weight = 2.7764**2 / 100
    middle, half = (0.9 + weight / 2) / (1 + weight), 2.7764 / (1 + weight) * (0.09 / 100 + weight / 400) ** 0.5
    estimate = intervals.share([number >= 10 for number in range(100)], EVEN, TIMES)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.9, middle - half, middle + half))


def test_all_in_time_still_leaves_room_for_a_miss() -> None:
    """The plain interval would be 1 to 1; Wilson's begins at n / (n + z^2)."""
    estimate = intervals.share([True] * 100, EVEN, TIMES)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, 100 / (100 + 2.7764**2), 1.0))


def test_none_in_time_is_its_mirror() -> None:
    estimate = intervals.share([False] * 100, EVEN, TIMES)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.0, 0.0, 1 - 100 / (100 + 2.7764**2)))


def test_parts_that_differ_make_an_interval_wider() -> None:
    """80 of 100, all misses in one part: variance 5/4 * (16^2 + 4 * 4^2) / 100^2 = 0.04, as of four requests."""
    estimate = intervals.share([part != 0 for part in EVEN], EVEN, TIMES)
    assert (estimate.low, estimate.high) == pytest.approx(intervals._wilson(0.8, 4.0))


def test_times_that_differ_by_parts_make_the_interval_of_a_full_share_wider() -> None:
    """All in time, but all of a part equally fast: a hundred requests are worth four, one less than the parts."""
    slower = [0.2 if part == 0 else 0.1 for part in EVEN]
    estimate = intervals.share([True] * 100, EVEN, slower)
    assert estimate.low == pytest.approx(4 / (4 + 2.7764**2))


def test_a_quantile_lies_between_those_at_the_ends_of_its_shares_interval() -> None:
    times = [float(number) for number in range(1, 101)]
    low, high = intervals._wilson(0.5, 100.0)
    estimate = intervals.quantile(times, EVEN, 0.5)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((50.5, 1 + 99 * low, 1 + 99 * high))


@pytest.mark.parametrize(("count", "bounded"), [(365, False), (370, True)])
def test_p99_has_an_upper_bound_from_368_requests_on(count: int, bounded: bool) -> None:
    """0.99^368 is just under 2.5 percent: with fewer, all may lie below it."""
    times = [float(number // PARTS) for number in range(count)]
    estimate = intervals.quantile(times, [number % PARTS for number in range(count)], 0.99)
    assert (estimate.high is not None) == bounded


def test_a_difference_of_the_same_arrivals_has_the_interval_of_their_gains() -> None:
    """A fifth of the requests gained: 20 of 100, variance 0.2 * 0.8, all parts alike."""
    first = [True] * 100
    second = [number % 25 >= 5 for number in range(100)]
    half = 2.7764 * (0.2 * 0.8 / 100) ** 0.5
    estimate = intervals.difference(first, second, EVEN)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_two_that_agree_in_all_may_yet_differ() -> None:
    estimate = intervals.difference([True] * 100, [True] * 100, EVEN)
    half = 2.7764**2 / (100 + 2.7764**2)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.0, -half, half))


def test_none_at_all_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no share"):
        intervals.share([], [], [])
    with pytest.raises(ValueError, match="no quantile"):
        intervals.quantile([], [], 0.5)


def queues(rate: float, count: int, runs: int) -> Iterator[tuple[list[int], list[float]]]:
    """Runs of a server that takes 1 for each of `count` requests, which come at `rate` by chance: parts and times."""
    chance = np.random.default_rng(7)
    for _ in range(runs):
        arrivals = np.cumsum(chance.exponential(1 / rate, count + 100))
        # Who comes at a waits as long as the longest of what those before left: Lindley's recursion, unrolled.
        ahead = np.arange(count + 100) - arrivals
        waits = ahead - np.minimum.accumulate(ahead)
        at = arrivals[100:] - arrivals[100]
        yield [intervals.part_of(each, at[-1]) for each in at], (1 + waits[100:]).tolist()


@pytest.mark.parametrize("limit", [3.0, 5.0, 8.0])
def test_intervals_of_a_busy_queue_hold_the_truth_nearly_always(limit: float) -> None:
    """At 0.8 of capacity 62, 83 and 95 percent are answered within 3, 5 and 8 of a request's own time."""
    truth = np.mean([time <= limit for _, times in queues(0.8, 20_000, 4) for time in times])
    estimates = [
        intervals.share([time <= limit for time in times], parts, times) for parts, times in queues(0.8, 480, 200)
    ]
    held = [
        bool(each.low is not None and each.high is not None and each.low <= truth <= each.high) for each in estimates
    ]
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("of", [0.5, 0.99])
def test_intervals_of_its_quantiles_do_too(of: float) -> None:
    truth = np.quantile([time for _, times in queues(0.8, 20_000, 4) for time in times], of)
    estimates = [intervals.quantile(times, parts, of) for parts, times in queues(0.8, 480, 200)]
    held = [(each.low is None or each.low <= truth) and (each.high is None or truth <= each.high) for each in estimates]
    assert np.mean(held) >= 0.9
