"""What the metrics are told of a batch that ran, once its answers are out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from service.core.bucket import Bucket
from service.core.errors import Internal, ServiceError
from service.core.substitute import Substitute
from service.core.timings import Timings
from service.core.types import Method, PredictResult, Route
from service.engine.device import Flops
from service.engine.request_queue import Pending
from service.telemetry.metrics import Metrics, Stage, size_class

Answers = list[tuple[Pending, PredictResult | ServiceError]]


class ResultCounts(NamedTuple):
    """One prediction without its pictures, which must not be kept until they are counted."""

    method: Method
    version: str
    timings: Timings
    flops: int
    substitute: Substitute | None  #: of an adaptive request that got less than it asked for
    frames: tuple[tuple[Method, Route, int], ...]  #: method, route and FLOPs of each that was predicted
    carried: int  #: frames to which the motion of another was carried

    @classmethod
    def of(cls, result: PredictResult) -> ResultCounts:
        """Take the numbers of a prediction."""
        predicted_steps = [step for step in result.steps if step.t is None or step.flops]
        frames = tuple([(step.method, step.route, step.flops) for step in predicted_steps])
        rest = len(result.steps) - len(predicted_steps)
        own, substitute = (result.method, result.model_version), Substitute.of(result)
        return cls(*own, result.timings, result.flops, substitute, frames, rest)


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """One batch: `flops` of a frame of its size, seconds that it took and was predicted to take (None: unknown).

    `routing_seconds`: spent ahead on routes of any requests.
    """

    bucket: Bucket
    size: int
    limit: str  #: what kept it from being larger
    flops: Flops
    seconds: float
    estimate: float | None
    results: tuple[ResultCounts, ...]
    empty_routes: int
    failures: int  #: requests that failed on the device
    routing_seconds: float

    @classmethod
    def of(
        cls,
        answers: Answers,
        limit: str,
        flops: Flops,
        seconds: float,
        estimate: float | None,
        empty_routes: int,
        routing_seconds: float,
    ) -> BatchCounts:
        """Take the numbers of a batch's answers; `empty_routes` are those found while it ran."""
        results = [answer for _, answer in answers if isinstance(answer, PredictResult)]
        return cls(
            answers[0][0].entry.bucket,
            len(answers),
            limit,
            flops,
            seconds,
            estimate,
            tuple([ResultCounts.of(result) for result in results]),
            empty_routes + sum([pending.was_empty for pending, _ in answers]),
            sum([isinstance(answer, Internal) for _, answer in answers]),
            routing_seconds,
        )

    def count(self, metrics: Metrics) -> None:
        """Count the batch, its failures, and every frame that it predicted."""
        label = size_class(self.bucket.height, self.bucket.width)
        busy_seconds = self.seconds + self.routing_seconds
        metrics.batch_ran(label, self.size, self.limit, self.seconds, self.estimate, busy_seconds)
        for _ in range(self.empty_routes):
            metrics.routes.was_empty()
        count_isolated(metrics, self.size, self.failures)
        for result in self.results:
            own = (Stage.ROUTE, Stage.BLOCKS) if result.method is Method.DMVFN else (Stage.MOTION, Stage.MIXING)
            for stage in (Stage.QUEUE, *own):
                metrics.stage_took(stage, getattr(result.timings, stage))
            metrics.answered(label, result.method, result.flops)
            metrics.versions.predicted(result.version)
            if result.substitute is not None:
                metrics.routes.shortened(result.substitute)
            for _ in range(result.carried):
                metrics.frame_carried(label)
            for method, route, flops in result.frames:
                if method is not Method.DMVFN:
                    metrics.frame_mixed(label, flops)
                    continue
                block_flops = sum([count for count, runs in zip(self.flops.blocks, route, strict=True) if runs])
                metrics.frame_predicted(label, route, flops - block_flops, self.flops.blocks)


def count_isolated(metrics: Metrics, size: int, failures: int) -> None:
    """Count the requests that failed alone after their batch, of `size`, was split."""
    if size > 1:
        for _ in range(failures):
            metrics.item_isolated()
