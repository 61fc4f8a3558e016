"""Prices what is queued by what workers say that their runs have cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from service.core.bucket import Bucket
from service.core.types import Method, Options
from service.distributed.broker import buckets
from service.engine.scheduling.pricing import DeviceCosts, PriceRange

#: The most seconds that one prediction is taken to cost, a day. Redis adds them up, in whole microseconds of 64 bits.
MOST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class QueuePrices:
    """What workers announce. `per_megapixel`: mean seconds of a step, of workers that publish no more than that."""

    devices: tuple[DeviceCosts, ...] = ()
    per_megapixel: float | None = None

    def price(self, bucket: Bucket, options: Options, default: Method = Method.DMVFN) -> PriceRange:
        """Predict the seconds of one prediction, the mean over workers; 0 while none has said: nothing is refused.

        `default` is the method where the options leave it open.
        """
        method = options.method_or(default)
        bucket = bucket._replace(method=method)
        devices = [costs for costs in self.devices if method is Method.DMVFN or method in costs.mixtures.models]
        if devices:
            prices = [costs.price(bucket, options) for costs in devices]
            return PriceRange(*(_bounded(sum(seconds) / len(prices)) for seconds in zip(*prices, strict=True)))
        seconds = _bounded(buckets.work(bucket, options.work, self.per_megapixel))
        return PriceRange(seconds, seconds)


def _bounded(seconds: float) -> float:
    """Return what a prediction can cost that is nearest: workers learn their costs, and may learn nonsense."""
    return min(max(0.0, seconds), MOST_S)
