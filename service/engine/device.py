"""What the batcher needs of a device that predicts: the seam where tests inject faults.

`service.engine.predictor.Predictor` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.core.interfaces import ServedModel
from service.core.types import PredictRequest, Route, Step
from service.engine.scheduling.cost_model import Load, MeasuredRun


@dataclass(frozen=True, slots=True)
class Flops:
    """What one frame of a bucket costs, 2 FLOPs per multiply-add: the routing module, and each block."""

    routing: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A request's first route. `probabilities` is None where the routing module had nothing to say."""

    route: Route
    probabilities: tuple[float, ...] | None = None
    was_empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DeviceWork:
    """A request to run: its first `route` (None: choose it), and the most blocks any step may take."""

    request: PredictRequest
    route: Route | None = None
    most_blocks: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunOutput:
    """What `run` did: one outcome per work, in order; the load that was really run; seconds spent on routes."""

    outcomes: tuple[tuple[Step, ...] | ServiceError, ...]
    load: Load
    route_seconds: float = 0.0
    empty_routes: int = 0


class Device(Protocol):
    """One device. Synchronous; every method is called from one thread."""

    @property
    def info(self) -> ServedModel:
        """Return the description of the served model."""
        ...

    @property
    def rows(self) -> int:
        """Return the most samples that go through the network together: no batch is larger."""
        ...

    @property
    def weights_of_blocks(self) -> tuple[float, ...]:
        """Return the multiply-adds per pixel of each block: the cost model's starting shape."""
        ...

    @property
    def weight_of_routing(self) -> float:
        """Return the multiply-adds per pixel of the routing module."""
        ...

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> list[MeasuredRun]:
        """Run each size (height, width) once for good measure and then timed."""
        ...

    def flops(self, bucket: Bucket) -> Flops:
        """Return the cost of a frame of this bucket."""
        ...

    def routes(self, requests: Sequence[PredictRequest]) -> list[Choice]:
        """Choose the first routes of requests of one bucket. May raise anything; the batcher isolates."""
        ...

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        """Predict works of one bucket; `keep` is asked between steps whether a work is still wanted."""
        ...

    def free(self) -> None:
        """Give cached memory back after running out of it."""
        ...

    def memory(self) -> tuple[int, int] | None:
        """Return used and total bytes of the device, or None where nothing useful is known."""
        ...
