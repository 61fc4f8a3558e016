"""Compares what a new version answers with what the default answered, on a part of the requests.

Nobody is sent what it answers. Pure: seconds and decibels are handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from service.core.interfaces import ShadowReport
from service.engine.versions.share_trial import Sampling
from service.engine.versions.version_record import FEWEST, WINDOW, VersionRecord, median, shortcoming, slowdown

#: Versions that predict differ by what they do not know, which is little (40 dB on the README's pair, where repeating
#: the frame is 27 dB away). Below so many dB in the median its answers are other pictures.
ALIKE_DB = 20.0


@dataclass(slots=True)
class ShadowTrial:
    """A version that answers a part, 0 to 1, of the requests again; 0 once that was ended, and `reason` says why."""

    name: str
    share: float
    reason: str = ""
    compared: int = 0
    _sampling: Sampling = field(init=False)
    _new: VersionRecord = field(default_factory=VersionRecord)
    _default: VersionRecord = field(default_factory=VersionRecord)
    _agreement_db: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def __post_init__(self) -> None:
        self._sampling = Sampling(self.share)

    def takes_next(self) -> bool:
        """Tell whether the next request is to be answered again."""
        return bool(self.share) and self._sampling.takes_next()

    def record(self, agreement_db: float | None, seconds: tuple[float, float] | None = None) -> bool:
        """Note a comparison, the PSNR of both answers; return True where it ends the trial.

        `agreement_db` None: the new version failed at what the default had answered. `seconds`: the default's and the
        new one's per pixel, where they can be compared.
        """
        self._default.failures.append(False)
        self._new.failures.append(agreement_db is None)
        if agreement_db is not None:
            self.compared += 1
            self._agreement_db.append(agreement_db)
        if seconds is not None:
            self._default.seconds.append(seconds[0])
            self._new.seconds.append(seconds[1])
        if not self.share:
            return False
        self.reason = shortcoming(self._new, self._default) or self._unlike()
        if self.reason:
            self.share = 0.0
        return bool(self.reason)

    def report(self) -> ShadowReport:
        """Return what was seen so far."""
        agreement_db = median(self._agreement_db) if self._agreement_db else None
        return ShadowReport(self.share, self.compared, agreement_db, slowdown(self._new, self._default), self.reason)

    def _unlike(self) -> str:
        if len(self._agreement_db) < FEWEST or median(self._agreement_db) >= ALIKE_DB:
            return ""
        return f"its answers are {median(self._agreement_db):.1f} dB from the default's, which is another picture"
