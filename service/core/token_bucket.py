"""Token buckets as values: an allowance, and how much of it is left at a moment. The clock's time is an argument.

A bucket may go below zero: what a prediction costs is known when it is made, and is taken then. Whoever is in debt
waits until it is paid, so that over a long time nobody gets more than the allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Tokens that must be there for anything to be taken, whatever is taken.
LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Gives `per_second` tokens, of which at most `capacity` are saved up."""

    capacity: float
    per_second: float

    @property
    def window(self) -> float:
        """Return the seconds in which an empty bucket fills."""
        return self.capacity / self.per_second


@dataclass(frozen=True, slots=True)
class BucketLevel:
    """Tokens that were there at `time`, seconds on whatever clock the caller has; below zero: a debt."""

    tokens: float
    time: float


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request takes of one allowance. `level` None: nothing was ever taken of it."""

    allowance: Allowance
    level: BucketLevel | None
    tokens: float

    def filled(self, now: float) -> BucketLevel:
        """Return the level at `now`: full at first, then with what has flowed in since. No clock's jump takes any."""
        if self.level is None:
            return BucketLevel(self.allowance.capacity, now)
        gain = max(0.0, now - self.level.time) * self.allowance.per_second
        return BucketLevel(min(self.allowance.capacity, self.level.tokens + gain), now)


def take(demands: Sequence[Demand], now: float) -> tuple[tuple[BucketLevel, ...], float]:
    """Take all of `demands`, or nothing where one of them has less than LEAST tokens.

    Returns the levels after it, and the seconds until it could be taken: 0 where it was.
    """
    levels = tuple(demand.filled(now) for demand in demands)
    pairs = tuple(zip(demands, levels, strict=True))
    wait = max((seconds_until(LEAST, demand.allowance, level) for demand, level in pairs), default=0.0)
    if wait > 0:
        return levels, wait
    return tuple(BucketLevel(level.tokens - demand.tokens, now) for demand, level in pairs), 0.0


def seconds_until(tokens: float, allowance: Allowance, level: BucketLevel) -> float:
    """Return the seconds from the level's time until it holds `tokens`, which are at most its capacity."""
    return max(0.0, tokens - level.tokens) / allowance.per_second
