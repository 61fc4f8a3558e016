"""What became of every request, and how long the answered ones took."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.core.bucket import Bucket
from service.engine.scheduling.entry import Entry


@dataclass(slots=True)
class Outcomes:
    """Each request is counted exactly once. `in_vain`: it ran, and its caller had been told at its deadline."""

    sent: int = 0
    on_time: int = 0
    refused: int = 0
    expired: int = 0
    in_vain: int = 0
    late: int = 0  #: answered after its deadline: the service never does
    without_advice: int = 0  #: refusals that did not say how long to wait
    blocks: int = 0  #: run for answers
    useful: float = 0.0  #: device seconds, as predicted, of what was answered in time
    by_size: dict[Bucket, list[int]] = field(default_factory=dict)  #: sent, on time
    batches: int = 0
    rows: int = 0
    latency: array[float] = field(default_factory=lambda: array("d"))
    lost_at: array[float] = field(default_factory=lambda: array("d"))  #: when the unanswered ones had come

    def record_arrival(self, bucket: Bucket) -> None:
        """Count a request that was sent."""
        self.sent += 1
        self.by_size.setdefault(bucket, [0, 0])[0] += 1

    def record_answer(self, sent_at: float, now: float, entry: Entry, blocks: int, seconds: float) -> None:
        """Count an answer to a request that was sent at `sent_at`; it took `seconds` of the device."""
        self.latency.append(now - sent_at)
        if now > entry.deadline:
            self.late += 1
            return
        self.on_time += 1
        self.by_size[entry.bucket][1] += 1
        self.blocks += blocks
        self.useful += seconds

    def record_refusal(self, sent_at: float, *, has_advice: bool) -> None:
        """Count a refusal on arrival: it would not be in time, or there is no room. `has_advice`: with a time."""
        self.refused += 1
        self.without_advice += not has_advice
        self.lost_at.append(sent_at)

    def record_expiry(self, sent_at: float, *, ran: bool) -> None:
        """Count an admitted request that passed its deadline; `ran`: after or while it ran."""
        self.in_vain += ran
        self.expired += not ran
        self.lost_at.append(sent_at)

    def outcome_count(self) -> int:
        """Count all requests that have an outcome."""
        return self.on_time + self.late + self.refused + self.expired + self.in_vain

    def quantile(self, q: float) -> float:
        """Return the seconds within which this share of the answers came; nan without any."""
        return float(np.quantile(self.latency, q)) if self.latency else float("nan")

    def share(self, count: int) -> float:
        """Return `count` as a share of all requests sent; nan without any."""
        return count / self.sent if self.sent else float("nan")

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return plain numbers. Goodput is on-time answers a second; the useful share is of one device's time."""
        return {
            "sent": self.sent,
            "on_time": self.on_time,
            "refused": self.refused,
            "expired": self.expired,
            "in_vain": self.in_vain,
            "late": self.late,
            "refused_without_advice": self.without_advice,
            "goodput": self.on_time / seconds,
            "on_time_share": self.share(self.on_time),
            "on_time_by_size": {f"{b.height}x{b.width}": on_time / sent for b, (sent, on_time) in self.by_size.items()},
            "p50_ms": 1000 * self.quantile(0.5),
            "p99_ms": 1000 * self.quantile(0.99),
            "useful_share": self.useful / seconds,
            "mean_batch": self.rows / self.batches if self.batches else float("nan"),
            "mean_blocks": self.blocks / self.on_time if self.on_time else float("nan"),
        }
