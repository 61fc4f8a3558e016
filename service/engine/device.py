"""What the batcher needs of a device that predicts: the seam where tests inject faults.

`service.engine.predictor.Predictor` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.core.interfaces import ServedModel
from service.core.timings import Timings
from service.core.types import Method, PredictRequest, Route, Step
from service.engine.scheduling.cost_model import Load, MeasuredRun


@dataclass(frozen=True, slots=True)
class Flops:
    """What one frame of a bucket costs, 2 FLOPs per multiply-add: the routing module, and each block."""

    routing: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChosenRoute:
    """A request's route, for one step. `probabilities` is None where the routing module had nothing to say."""

    route: Route
    probabilities: tuple[float, ...] | None = None
    was_empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DeviceWork:
    """A request to run: its first `route` (None: choose it), and the most blocks any step may take.

    `live`: by the live head's mixture of motions instead, whatever its method. `shifted`: by the motion before.
    """

    request: PredictRequest
    route: Route | None = None
    most_blocks: int | None = None
    live: bool = False
    shifted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RunOutput:
    """What `run` did: one outcome per work, in order; the load that was really run; seconds spent on routes.

    `motion_seconds` and `mixing_seconds`: of mixtures, finding and warping motions, and weighing. `live`: what the live
    head did beside that load, in place of the batch's method; `shifted`: the same of motions before.
    """

    outcomes: tuple[tuple[Step, ...] | ServiceError, ...]
    load: Load
    route_seconds: float = 0.0
    empty_routes: int = 0
    motion_seconds: float = 0.0
    mixing_seconds: float = 0.0
    live: MeasuredRun | None = None
    shifted: MeasuredRun | None = None

    @property
    def stand_ins(self) -> tuple[MeasuredRun, ...]:
        """Return what ran in place of the batch's own method."""
        return tuple([run for run in (self.live, self.shifted) if run is not None])

    @property
    def only_stood_in(self) -> bool:
        """Tell whether nothing ran by the batch's own method: the live head or motions before answered all."""
        return bool(self.stand_ins) and not self.load.pixels


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

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> Iterable[MeasuredRun]:
        """Run each size (height, width) once for good measure and then timed, a row of the table at a time."""
        ...

    def flops(self, bucket: Bucket) -> Flops:
        """Return the cost of a frame of this bucket."""
        ...

    def routes(self, requests: Sequence[PredictRequest]) -> list[ChosenRoute]:
        """Choose the first routes of requests of one bucket. May raise anything; the batcher isolates."""
        ...

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        """Predict works of one bucket; `keep` is asked between steps whether a work is still wanted."""
        ...

    def knows_motion(self, request: PredictRequest) -> bool:
        """Tell whether the motion before a request's pair is known. Called from any thread."""
        ...

    def free(self) -> None:
        """Give cached memory back after running out of it."""
        ...

    def memory(self) -> tuple[int, int] | None:
        """Return used and total bytes of the device, or None where nothing useful is known."""
        ...


def bucket_of(request: PredictRequest, method: Method = Method.DMVFN, weights: int = 0) -> Bucket:
    """Return the bucket of requests that can share a batch with this one, predicted by `method` and these weights."""
    return Bucket.of(request.current.height, request.current.width, request.options.scale, method, weights)


def batch_timings(bucket: Bucket, runs: Sequence[RunOutput], seconds: float) -> Timings:
    """Part a batch's seconds into stages; what is in none of them counts to the last stage of its own method."""
    routing, motion = sum(run.route_seconds for run in runs), sum(run.motion_seconds for run in runs)
    if bucket.method is not Method.DMVFN:
        return Timings(motion=motion, mixing=max(0.0, seconds - motion))
    mixing = sum(run.mixing_seconds for run in runs)
    return Timings(0.0, routing, max(0.0, seconds - routing - motion - mixing), motion, mixing)
