"""Gives a new version a share of the requests, and takes it back where it does worse than the default.

Pure: outcomes and seconds are handed in. Knows no queue and no network.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: Outcomes of each of the two that are looked at, and those of the new one before anything is concluded.
WINDOW, FEWEST = 200, 20
#: A new version is worse where its part of failures is above the default's by more than this.
MORE_FAILURES = 0.05
#: And where half of its answers take more than so many times as long as half of the default's, pixel by pixel.
SLOWER = 1.5


@dataclass(slots=True)
class _Record:
    """The last outcomes of one version: failures as True, and seconds per pixel of answers."""

    failures: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def failed(self) -> float:
        return sum(self.failures) / len(self.failures) if self.failures else 0.0

    def median(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0


@dataclass(slots=True)
class ShareTrial:
    """A version's share, 0 to 1, of requests; 0 once it was taken back, and `reason` says why."""

    name: str
    share: float
    reason: str = ""
    _credit: float = 0.0
    _new: _Record = field(default_factory=_Record)
    _default: _Record = field(default_factory=_Record)

    def takes_next(self) -> bool:
        """Tell whether the next request is the new version's: evenly spread, so that 5% is every twentieth."""
        self._credit += self.share
        if self._credit < 1.0 - 1e-9:
            return False
        self._credit -= 1.0
        return True

    def record(self, name: str, seconds_per_pixel: float | None) -> bool:
        """Note an outcome of version `name`, None for a failure of ours; return True where it ends the share."""
        record = self._new if name == self.name else self._default
        record.failures.append(seconds_per_pixel is None)
        if seconds_per_pixel is not None:
            record.seconds.append(seconds_per_pixel)
        if not self.share or len(self._new.failures) < FEWEST:
            return False
        self.reason = self._worse()
        if self.reason:
            self.share = 0.0
        return bool(self.reason)

    def _worse(self) -> str:
        failures, usual = self._new.failed(), self._default.failed()
        if failures > usual + MORE_FAILURES:
            return f"{failures:.0%} of its requests failed, {usual:.0%} of the default's"
        if len(self._default.seconds) >= FEWEST and self._new.median() > SLOWER * self._default.median():
            ratio = self._new.median() / self._default.median()
            return f"its answers take {ratio:.1f} times as long as the default's"
        return ""
