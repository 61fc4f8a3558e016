"""Gives a new version a share of the requests, and takes it back where it does worse than the default.

Pure: outcomes, seconds and scores are handed in. Knows no queue and no network.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.engine.versions.version_record import VersionRecord, shortcoming


@dataclass(slots=True)
class Sampling:
    """Picks a part, 0 to 1, of what comes, evenly spread: 5% is every twentieth."""

    share: float
    _credit: float = 0.0

    def takes_next(self) -> bool:
        """Tell whether the next one is picked."""
        self._credit += self.share
        if self._credit < 1.0 - 1e-9:
            return False
        self._credit -= 1.0
        return True


@dataclass(slots=True)
class ShareTrial:
    """A version's share, 0 to 1, of requests; 0 once it was taken back, and `reason` says why."""

    name: str
    share: float
    reason: str = ""
    _sampling: Sampling = field(init=False)
    _new: VersionRecord = field(default_factory=VersionRecord)
    _default: VersionRecord = field(default_factory=VersionRecord)

    def __post_init__(self) -> None:
        self._sampling = Sampling(self.share)

    def takes_next(self) -> bool:
        """Tell whether the next request is the new version's."""
        return bool(self.share) and self._sampling.takes_next()

    def record(self, name: str, seconds_per_pixel: float | None) -> bool:
        """Note an outcome of version `name`, None for a failure of ours; return True where it ends the share."""
        self._of(name).add(seconds_per_pixel)
        return self._ends()

    def record_score(self, name: str, gain_db: float) -> bool:
        """Note how much better than repeating the last frame a prediction was, dB; True where it ends the share."""
        self._of(name).gains_db.append(gain_db)
        return self._ends()

    def _of(self, name: str) -> VersionRecord:
        return self._new if name == self.name else self._default

    def _ends(self) -> bool:
        if not self.share:
            return False
        self.reason = shortcoming(self._new, self._default)
        if self.reason:
            self.share = 0.0
        return bool(self.reason)
