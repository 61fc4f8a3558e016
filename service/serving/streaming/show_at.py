"""Decides for which moments a stream's frames are predicted, where its client says when they are to be seen.

Microseconds: capture, send and display times on the client's clock, arrivals and replies on ours. Knows no clock.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import OrderedDict, deque
from dataclasses import dataclass

from service.core.errors import InvalidRequest
from service.serving.streaming.link_clock import LinkClock

#: Of a display, a second.
LEAST_FPS, MOST_FPS = 1.0, 480.0
#: Milliseconds after now that may be asked for.
MOST_MS = 2000
#: Moments that may be predicted, in intervals after the current frame, and how many of them at once.
LEAST_T, MOST_T, MOST_MOMENTS = 0.001, 16.0, 16
#: Answers whose median is what the service is expected to take, the most it is taken for, and before the first.
LATENCIES, MOST_LATENCY_US, FIRST_LATENCY_US = 9, 1_000_000.0, 30_000.0
#: Answers whose receipt may still come: more than a stream's unread ones, whose aims are still to be taken.
MOST_OPEN = 1024

_NOW = re.compile(r"(now|arrival)(?:\+([0-9]{1,4})ms)?")


@dataclass(frozen=True, slots=True)
class ShowAt:
    """When frames are to be seen: `after_us` after `base`, "now" (a frame is sent) or "arrival" (of its answer).

    Or on a display, which shows at `phase_us` + k / `fps`: a frame for each of its ticks before the next answer.
    """

    base: str = "now"
    after_us: int = 0
    fps: float | None = None
    phase_us: int = 0

    @classmethod
    def parse(cls, text: str | None, fps: float | None, phase_us: int | None) -> ShowAt | None:
        """Parse `show_at`, `display_fps` and `display_phase_us` of any edge. Raises InvalidRequest; None for none."""
        if fps is not None:
            if not LEAST_FPS <= fps <= MOST_FPS:
                raise InvalidRequest(f"display_fps must be between {LEAST_FPS:g} and {MOST_FPS:g}", field="display_fps")
            if text is not None:
                raise InvalidRequest("show_at means nothing with display_fps", field="show_at")
            return cls("display", 0, fps, phase_us or 0)
        if phase_us is not None:
            raise InvalidRequest("display_phase_us means nothing without display_fps", field="display_phase_us")
        if text is None:
            return None
        match = _NOW.fullmatch(text)
        if match is None or int(match[2] or 0) > MOST_MS:
            words = f"now, arrival, or these and up to {MOST_MS} ms such as now+80ms"
            raise InvalidRequest(f"show_at must be {words}", field="show_at")
        return cls(match[1], 1000 * int(match[2] or 0))


@dataclass(frozen=True, slots=True)
class ShowReport:
    """What an answer aimed at. `miss_us`: its expected arrival less the first aim; None: the link is not known yet."""

    aimed_us: tuple[int, ...]
    received_us: int
    replied_us: int
    miss_us: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerReceipt:
    """When the client had an answer, on its clock."""

    sequence: int
    received_us: int


@dataclass(slots=True)
class _Open:
    sent_us: int | None
    received_us: float
    replied_us: float | None = None
    aimed_us: tuple[int, ...] = ()


class ShowTimes:
    """The aims of one stream, its own latency and its link."""

    def __init__(self, wish: ShowAt) -> None:
        self._wish = wish
        self._link = LinkClock()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def arrived(self, sequence: int, sent_us: int | None, received_us: float) -> None:
        """Take note of a frame: when the client sent it (its clock), when it came (ours)."""
        self._open[sequence] = _Open(sent_us, received_us)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def aim(self, sequence: int, time_us: int | None, pace_us: int | None) -> tuple[float, ...]:
        """Return the moments t to predict for the frame captured at `time_us`, `pace_us` after the one before.

        Raises InvalidRequest where a time that this needs was not sent.
        """
        if time_us is None or pace_us is None or pace_us <= 0:
            raise InvalidRequest("show_at and display_fps need capture times that grow", field="presentation_time_us")
        entry = self._open[sequence]
        targets = self._targets(entry, pace_us)
        entry.aimed_us = tuple(round(target) for target in targets)
        return tuple(min(MOST_T, max(LEAST_T, (target - time_us) / pace_us)) for target in targets)

    def replying(self, sequence: int, replied_us: float) -> ShowReport | None:
        """Take note of an answer that leaves now; return what it is told of its aim. None for one that had no aim."""
        entry = self._open.get(sequence)
        if entry is None:
            return None
        entry.replied_us = replied_us
        arrival = self._link.arrival_us(replied_us)
        miss = None if arrival is None or not entry.aimed_us else round(arrival - entry.aimed_us[0])
        if entry.aimed_us:
            self._latencies.append(replied_us - entry.received_us)
        return ShowReport(entry.aimed_us, round(entry.received_us), round(replied_us), miss)

    def receipt(self, receipt: AnswerReceipt) -> float | None:
        """Learn from a receipt; return by how many microseconds the answer really missed its aim, if it had one."""
        entry = self._open.get(receipt.sequence)
        if entry is None or entry.replied_us is None:
            return None  # of no answer that has left
        del self._open[receipt.sequence]
        if entry.sent_us is not None:
            self._link.add(entry.sent_us, entry.received_us, entry.replied_us, receipt.received_us)
        return receipt.received_us - entry.aimed_us[0] if entry.aimed_us else None

    def _targets(self, entry: _Open, pace_us: int) -> list[float]:
        wish = self._wish
        if wish.base == "now":
            if entry.sent_us is None:
                raise InvalidRequest("show_at now needs sent_us with each frame", field="sent_us")
            return [entry.sent_us + wish.after_us]
        arrival = self._expected_arrival(entry) + wish.after_us
        if wish.fps is None:
            return [arrival]
        tick_us = 1e6 / wish.fps
        first = math.ceil((arrival - wish.phase_us) / tick_us)
        count = min(MOST_MOMENTS, max(1, math.floor((arrival + pace_us - wish.phase_us - 1) / tick_us) - first + 1))
        return [wish.phase_us + (first + place) * tick_us for place in range(count)]

    def _expected_arrival(self, entry: _Open) -> float:
        latency = min(MOST_LATENCY_US, statistics.median(self._latencies)) if self._latencies else FIRST_LATENCY_US
        arrival = self._link.arrival_us(entry.received_us + latency)
        if arrival is not None:
            return arrival
        if entry.sent_us is None:
            raise InvalidRequest("show_at and display_fps need sent_us with each frame", field="sent_us")
        return entry.sent_us + latency
