"""Learns how late things happen, and tells what to allow for so that one in a thousand is later.

Pure: seconds and the time are arguments. For one thread at a time.
"""

from __future__ import annotations

import bisect
from collections import deque

#: Of so many, one may be later than what is allowed for.
RARE = 1000
#: Measurements that are remembered: at most, and at least, however old they are.
MOST_REMEMBERED, LEAST_REMEMBERED = 1024, 16
#: Seconds after which one is forgotten.
KEPT_S = 60.0


class Lateness:
    """How late something was of late. One measurement counts as `most` seconds at most."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._history: deque[tuple[float, float]] = deque()  #: when, and how late
        self._ranking: list[float] = []

    def learn(self, seconds: float, now: float) -> None:
        """Remember that something was `seconds` late; below 0 it was early, which counts as 0."""
        seconds = min(self._most, max(0.0, seconds))
        self._history.append((now, seconds))
        bisect.insort(self._ranking, seconds)
        while len(self._history) > LEAST_REMEMBERED and (
            len(self._history) > MOST_REMEMBERED or self._history[0][0] < now - KEPT_S
        ):
            del self._ranking[bisect.bisect_left(self._ranking, self._history.popleft()[1])]

    def allowance(self) -> float:
        """Return the seconds to allow for: what one of RARE exceeded; with fewer remembered, the latest; 0 of none."""
        return self._ranking[-1 - len(self._ranking) // RARE] if self._ranking else 0.0
