"""95 % intervals of shares and quantiles of requests that shared one queue.

Requests that come close together meet the same queue, so they count as fewer than they are: by how much is read from
how far ten equal parts of the run differ (the design effect of cluster sampling), and never less than not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Parts that a run is cut into: six seconds each of a minute, longer than any request may wait.
PARTS = 10
#: Student's t for 95 % and PARTS - 1 degrees of freedom.
CRITICAL = 2.2622
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


def share(hits: Sequence[bool], parts: Sequence[int]) -> Estimate:
    """Estimate the share of requests that were hits; `parts` says when each came (`part_of`). ValueError for none."""
    if not hits:
        raise ValueError("no requests, no share")
    flags = np.array(hits, bool)
    value = float(flags.mean())
    return Estimate(value, *_wilson(value, _independent(flags, np.array(parts), value)))


def quantile(values: Sequence[float], parts: Sequence[int], of: float) -> Estimate:
    """Estimate the `of` quantile (0.99: p99) of `values`: those at both ends of the interval of the share below it."""
    if not values:
        raise ValueError("no values, no quantile")
    numbers = np.array(values)
    value = float(np.quantile(numbers, of))
    count = _independent(numbers <= value, np.array(parts), of)
    low, high = (float(np.quantile(numbers, end)) for end in _wilson(of, count))
    # Where all of so few may well lie below p99, the longest of them says nothing of how long it can take.
    return Estimate(value, low if (1 - of) ** count < ONE_SIDE else None, high if of**count < ONE_SIDE else None)


def _independent(hits: NDArray[np.bool_], parts: NDArray[np.int64], expected: float) -> float:
    """As many independent requests would tell a share of `expected` as well as these."""
    counts = np.bincount(parts, minlength=PARTS)
    surplus = np.bincount(parts, weights=hits, minlength=PARTS) - expected * counts
    total = len(hits)
    variance = PARTS / (PARTS - 1) * float(surplus @ surplus) / total**2
    alone = expected * (1 - expected) / total
    return total / max(1.0, variance / alone) if alone else float(total)


def _wilson(value: float, count: float) -> tuple[float, float]:
    """Wilson's interval of a share: unlike the plain one it has a width at 0 and 1, and stays between them."""
    weight = CRITICAL**2 / count
    middle = (value + weight / 2) / (1 + weight)
    half = CRITICAL / (1 + weight) * float(np.sqrt(value * (1 - value) / count + weight / (4 * count)))
    return max(0.0, middle - half), min(1.0, middle + half)
