"""How a version of the weights has fared of late, and whether a new one fares worse than the default.

Pure: outcomes, seconds and scores are handed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Outcomes of each of the two that are looked at, and those of the new one before anything is concluded.
WINDOW, FEWEST = 200, 20
#: A new version is worse where its part of failures is above the default's by more than this.
MORE_FAILURES = 0.05
#: And where half of its answers take more than so many times as long as half of the default's, pixel by pixel.
SLOWER = 1.5
#: And where its predictions gain less over repeating the last frame: by at least so many dB, and by so many standard
#: errors of the difference, as it is looked at with every score; from so many scores of each on.
LESS_GAIN_DB, SURE, FEWEST_SCORES = 0.2, 4.0, 50


def _window() -> deque[float]:
    return deque(maxlen=WINDOW)


@dataclass(slots=True)
class VersionRecord:
    """The last outcomes of one version: failures as True, seconds per pixel of answers, and online scores in dB."""

    failures: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    seconds: deque[float] = field(default_factory=_window)
    gains_db: deque[float] = field(default_factory=_window)

    def add(self, seconds_per_pixel: float | None) -> None:
        """Note an outcome, None for a failure."""
        self.failures.append(seconds_per_pixel is None)
        if seconds_per_pixel is not None:
            self.seconds.append(seconds_per_pixel)

    def failure_rate(self) -> float:
        """Return the part of outcomes that are failures, 0 to 1."""
        return sum(self.failures) / len(self.failures) if self.failures else 0.0


def median(values: Sequence[float]) -> float:
    """Return the upper median, 0 for none."""
    return sorted(values)[len(values) // 2] if values else 0.0


def slowdown(new: VersionRecord, default: VersionRecord) -> float | None:
    """Return how many times as long the new version's answers take; None where there are too few of the default's."""
    if len(default.seconds) < FEWEST or not new.seconds:
        return None
    usual = median(default.seconds)
    return median(new.seconds) / usual if usual > 0 else None


def shortcoming(new: VersionRecord, default: VersionRecord) -> str:
    """Say in what the new version is worse than the default; empty where it is not, or too little is known."""
    if len(new.failures) >= FEWEST:
        rate, usual = new.failure_rate(), default.failure_rate()
        if rate > usual + MORE_FAILURES:
            return f"{rate:.0%} of its requests failed, {usual:.0%} of the default's"
        ratio = slowdown(new, default)
        if ratio is not None and ratio > SLOWER:
            return f"its answers take {ratio:.1f} times as long as the default's"
    return _less_gain(new.gains_db, default.gains_db)


def _less_gain(new: Sequence[float], default: Sequence[float]) -> str:
    if min(len(new), len(default)) < FEWEST_SCORES:
        return ""
    (new_mean, new_error), (usual_mean, usual_error) = _mean(new), _mean(default)
    difference = usual_mean - new_mean
    if difference <= max(LESS_GAIN_DB, SURE * math.hypot(new_error, usual_error)):
        return ""
    return f"in streams it gains {new_mean:.2f} dB over repeating the last frame, the default {usual_mean:.2f} dB"


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
