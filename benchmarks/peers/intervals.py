"""95 % intervals of shares and quantiles of requests that shared one queue.

Requests that come close together meet the same queue, so they count as fewer than they are: by how much is read from
how far five equal parts of the run differ (the design effect of cluster sampling), in what is counted and in how long
requests took, whichever says more; and never as more than they are. Made-up queues (tests) are held by 93 to 97 of 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Parts that a run is cut into. Ten are too short for a queue at 0.8 of its capacity: busy spells span several.
PARTS = 5
#: Student's t for 95 % and PARTS - 1 degrees of freedom.
CRITICAL = 2.7764
#: Chance that all requests lie on one side of a quantile, above which that side has no bound at 95 %.
ONE_SIDE = 0.025


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the interval that holds the true one in 95 runs of 100; None: too few to bound that side."""

    value: float
    low: float | None
    high: float | None


def part_of(at: float, seconds: float) -> int:
    """Return the part, 0 to PARTS - 1, of a request that was due `at` seconds after the start."""
    return min(PARTS - 1, int(PARTS * at / seconds))


def share(hits: Sequence[bool], parts: Sequence[int], times: Sequence[float]) -> Estimate:
    """Estimate the share of requests that were hits; ValueError for none.

    `parts`: when each came (`part_of`). `times`: seconds each took, which show how requests depend on one another even
    where all of them are hits.
    """
    if not hits:
        raise ValueError("no requests, no share")
    flags = np.array(hits, bool)
    value = float(flags.mean())
    return Estimate(value, *_wilson(value, _independent(flags, np.array(parts), value, np.array(times))))


def quantile(times: Sequence[float], parts: Sequence[int], of: float) -> Estimate:
    """Estimate the `of` quantile (0.99: p99) of `times`: those at both ends of the interval of the share below it."""
    if not times:
        raise ValueError("no times, no quantile")
    numbers = np.array(times)
    value = float(np.quantile(numbers, of))
    count = _independent(numbers <= value, np.array(parts), of, numbers)
    low, high = (float(np.quantile(numbers, end)) for end in _wilson(of, count))
    # Where all of so few may well lie below p99, the longest of them says nothing of how long it can take.
    return Estimate(value, low if (1 - of) ** count < ONE_SIDE else None, high if of**count < ONE_SIDE else None)


def difference(first: Sequence[bool], second: Sequence[bool], parts: Sequence[int]) -> Estimate:
    """Estimate the share of `first` less that of `second`, -1 to 1, of the same arrivals in the same order.

    What both have in common, such as a crowd that came at once, cancels out: far narrower than two shares' intervals.
    """
    gains = np.array(first, float) - np.array(second, float)
    value, variance, count = float(gains.mean()), float(gains.var()), len(gains)
    independent = count / max(1.0, _design_effect(gains, np.array(parts), value, variance))
    # Where both agree in all of so few, they may yet differ in as many as Wilson's interval of none allows.
    least = CRITICAL**2 / (independent + CRITICAL**2) if variance == 0 else 0.0
    half = max(least, CRITICAL * float(np.sqrt(variance / independent)))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def _independent(
    hits: NDArray[np.bool_], parts: NDArray[np.int64], expected: float, times: NDArray[np.float64]
) -> float:
    """As many independent requests would tell a share of `expected` as well as these."""
    effects = (
        _design_effect(hits.astype(float), parts, expected, expected * (1 - expected)),
        _design_effect(times, parts, float(times.mean()), float(times.var())),
    )
    return len(hits) / max(1.0, *effects)


def _design_effect(values: NDArray[np.float64], parts: NDArray[np.int64], mean: float, variance: float) -> float:
    """How many times the variance of independent values' mean that of these is, by how far the parts' sums differ."""
    if variance <= 0:
        return 1.0
    surplus = np.bincount(parts, weights=values - mean, minlength=PARTS)
    return PARTS / (PARTS - 1) * float(surplus @ surplus) / (len(values) * variance)


def _wilson(value: float, count: float) -> tuple[float, float]:
    """Wilson's interval of a share: unlike the plain one it has a width at 0 and 1, and stays between them."""
    weight = CRITICAL**2 / count
    middle = (value + weight / 2) / (1 + weight)
    half = CRITICAL / (1 + weight) * float(np.sqrt(value * (1 - value) / count + weight / (4 * count)))
    # At 0 and 1 one end is the share itself, but for rounding.
    return 0.0 if value == 0 else max(0.0, middle - half), 1.0 if value == 1 else min(1.0, middle + half)
