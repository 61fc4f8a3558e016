"""What the Open Inference Protocol's statistics count, per model. Pure: durations and the time of day are handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.core.types import PredictResult
from service.serving.oip.models import MODELS, VERSION


@dataclass(slots=True)
class Duration:
    """How often, and how many nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, count: int, seconds: float) -> None:
        """Add `seconds` for all of `count` together."""
        self.count += count
        self.ns += round(max(0.0, seconds) * 1e9)

    def document(self) -> dict[str, int]:
        """Return the figures in the protocol's names."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class InferTimings:
    """Seconds of one request: in all, reading its frames, writing its answer."""

    total: float
    reading: float
    writing: float


@dataclass(slots=True)
class _Batches:
    executions: float = 0.0
    infer: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelStatistics:
    """One model's counts and durations.

    An item's share of an execution is one over its batch's size, so that executions add up to whole ones.
    """

    last_ms: int = 0
    inferences: int = 0
    executions: float = 0.0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    reading: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    writing: Duration = field(default_factory=Duration)
    batches: dict[int, _Batches] = field(default_factory=dict)

    def count_answer(self, results: Sequence[PredictResult], timings: InferTimings, now_ms: int) -> None:
        """Count a request of `results` items that went well."""
        self.last_ms = max(self.last_ms, now_ms)
        self.inferences += len(results)
        self.success.add(1, timings.total)
        self.queue.add(1, max(result.timings.queue for result in results))
        self.reading.add(1, timings.reading)
        self.infer.add(1, max(result.timings.device for result in results))
        self.writing.add(1, timings.writing)
        for result in results:
            share = 1 / result.batch_size
            self.executions += share
            batch = self.batches.setdefault(result.batch_size, _Batches())
            batch.executions += share
            batch.infer.ns += round(result.timings.device * share * 1e9)

    def count_failure(self, seconds: float) -> None:
        """Count a request that ended with an error."""
        self.fail.add(1, seconds)

    def document(self, name: str) -> dict[str, object]:
        """Return the figures in the protocol's names."""
        nothing = Duration().document()
        return {
            "name": name,
            "version": VERSION,
            "last_inference": self.last_ms,
            "inference_count": self.inferences,
            "execution_count": round(self.executions),
            "inference_stats": {
                "success": self.success.document(),
                "fail": self.fail.document(),
                "queue": self.queue.document(),
                "compute_input": self.reading.document(),
                "compute_infer": self.infer.document(),
                "compute_output": self.writing.document(),
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": nothing,
                    "compute_infer": {"count": round(batch.executions), "ns": batch.infer.ns},
                    "compute_output": nothing,
                }
                for size, batch in sorted(self.batches.items())
            ],
        }


class InferStatistics:
    """Counts the requests of every model, and how long they took, as the protocol's statistics want them."""

    def __init__(self) -> None:
        self.models = {name: ModelStatistics() for name in MODELS}

    def documents(self, name: str = "") -> list[dict[str, object]]:
        """List one model's figures, or with no name everyone's."""
        return [statistics.document(model) for model, statistics in self.models.items() if name in ("", model)]
