"""Counts freezes as WebRTC does (webrtc-stats: freezeCount, totalFreezesDuration). Time is an argument, in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Frames over which the mean duration is taken.
WINDOW = 30
#: Durations known before any can be a freeze.
LEAST = 5
#: A frame that is shown for so many means, and for so many seconds more than one, was frozen.
TIMES, MORE_S = 3, 0.150


@dataclass(frozen=True, slots=True)
class FreezeReport:
    """Freezes so far, their seconds together, and the seconds watched."""

    count: int
    total_s: float
    watched_s: float


class FreezeCounter:
    """Takes the times at which something new is shown."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._first: float | None = None
        self._last = 0.0
        self._count = 0
        self._total = 0.0

    def shown(self, now: float) -> float:
        """Take note of a new picture; return the seconds for which the one before was frozen, 0 if it was not."""
        if self._first is None:
            self._first = self._last = now
            return 0.0
        duration, self._last = now - self._last, now
        self._durations.append(duration)
        mean = sum(self._durations) / len(self._durations)
        if len(self._durations) < LEAST or duration < max(TIMES * mean, mean + MORE_S):
            return 0.0
        self._count += 1
        self._total += duration
        return duration

    def report(self) -> FreezeReport:
        """Return the counts until the last picture."""
        seconds = 0.0 if self._first is None else self._last - self._first
        return FreezeReport(self._count, self._total, seconds)
