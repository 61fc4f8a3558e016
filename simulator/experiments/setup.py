"""What all questions share: the measured device, how much to simulate, and a count of what it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.engine.scheduling.batch_scheduler import QueueLimits
from simulator.calibration.table import Table
from simulator.device import Device
from simulator.fleet import Fleet
from simulator.traffic import Kind


@dataclass(slots=True)
class Study:
    """`effort` 1 is what docs/scaling.md shows; less simulates fewer requests."""

    table: Table
    effort: float = 1.0
    seed: int = 0
    requests: int = 0
    events: int = 0
    seconds: float = 0.0

    @property
    def device(self) -> Device:
        """Return the measured device."""
        return Device(self.table)

    def count(self, requests: int) -> int:
        """Scale a count of requests that the docs show by `effort`; at least 50."""
        return max(50, round(requests * self.effort))

    def run(self, fleet: Fleet, arrivals: Iterator[float]) -> Fleet:
        """Run all arrivals. Raises RuntimeError unless each request has exactly one outcome, none of them late."""
        outcomes = fleet.run(arrivals)
        if outcomes.outcome_count() != outcomes.sent or outcomes.late:
            raise RuntimeError(
                f"{outcomes.sent} sent, {outcomes.outcome_count()} settled, {outcomes.late} answered late"
            )
        self.requests += outcomes.sent
        self.events += fleet.clock.events
        self.seconds += fleet.cpu_seconds
        return fleet


def capacity(device: Device, kinds: Sequence[Kind]) -> float:
    """Return the requests a second that one device can answer when kinds come in turn and batches are full."""
    batch = QueueLimits().max_batch
    each = [1 / device.capacity(kind.bucket, kind.request.options, batch) for kind in kinds]
    return len(each) / sum(each)
