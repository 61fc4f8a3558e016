"""The price of a megapixel on this worker's device: the running mean that it announces, with limits on learning.

Front ends price the queue by it. Pure; knows no Redis and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.core.bucket import Bucket
from service.core.types import Method, PredictRequest, PredictResult
from service.distributed.broker import buckets
from service.engine.scheduling.cold_runs import ColdRuns

#: Weight of a new measurement in the running mean.
FRESH = 0.2
#: One measurement counts for at most this many times the mean, and at least for its inverse.
LARGEST_RATIO = 4.0


@dataclass(slots=True)
class MeasuredPrice:
    """Learns from every answered prediction but the first of a size, which compiles and allocates."""

    seconds_per_megapixel: float | None = None
    _cold: ColdRuns = field(default_factory=ColdRuns)

    def observe(self, request: PredictRequest, result: PredictResult) -> None:
        """Learn from one answered request. Times that are not positive teach nothing.

        Nor do mixtures that were asked for by name or stand in for what would be late: the price is that of what most
        requests ask for, the network or the weights' own method.
        """
        frame, options = request.current, request.options
        if result.method is not Method.DMVFN and (options.method is not None or result.shortened):
            return
        seconds = result.timings.device / result.batch_size
        bucket = Bucket.of(frame.height, frame.width, options.scale, result.method)
        cold = self._cold.is_cold(bucket, result.batch_size)
        if cold or not 0.0 < seconds < float("inf"):
            return
        price = seconds / buckets.work(bucket, options.work, 1.0)
        mean = self.seconds_per_megapixel
        if mean is not None:
            price = mean + FRESH * (min(max(price, mean / LARGEST_RATIO), mean * LARGEST_RATIO) - mean)
        self.seconds_per_megapixel = price
