"""Learns how far a client's clock is from ours, and how long the link takes, by four stamps as NTP does (RFC 5905).

Microseconds throughout; knows no clock of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Samples among which the one with the shortest way counts: what waited in a queue on one way says nothing of clocks.
WINDOW = 8
#: A round trip that took longer tells nothing.
MOST_DELAY_US = 10_000_000


@dataclass(frozen=True, slots=True)
class LinkSample:
    """One round trip. `offset_us`: our clock less the client's; `delay_us`: there and back, without our own time."""

    offset_us: float
    delay_us: float


class LinkClock:
    """The best of the last samples."""

    def __init__(self) -> None:
        self._samples: deque[LinkSample] = deque(maxlen=WINDOW)

    def add(self, sent_us: float, received_us: float, replied_us: float, answered_us: float) -> None:
        """Take a round trip: when the client sent, we received, we replied (ours), and the client had the answer.

        One that cannot be (a negative delay, beyond the clocks' own drift) is left out.
        """
        delay = (answered_us - sent_us) - (replied_us - received_us)
        if 0 <= delay <= MOST_DELAY_US:
            offset = ((received_us - sent_us) + (replied_us - answered_us)) / 2
            self._samples.append(LinkSample(offset, delay))

    @property
    def best(self) -> LinkSample | None:
        """Return the sample with the shortest way; None before the first."""
        return min(self._samples, key=lambda sample: sample.delay_us, default=None)

    def arrival_us(self, replied_us: float) -> float | None:
        """Return when, on the client's clock, it has what leaves us at `replied_us`; None before the first sample."""
        best = self.best
        return None if best is None else replied_us - best.offset_us + best.delay_us / 2
