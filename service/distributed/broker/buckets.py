"""Names buckets in Redis, and predicts the seconds that one of their requests takes."""

from __future__ import annotations

from service.core.bucket import Bucket
from service.telemetry.metrics import size_class


def name(bucket: Bucket) -> str:
    """Return a bucket's word in the key of its streams. It has no colon, which parts the words of a key.

    A stream may have a name that is never returned here: releases up to November 2026 padded to whole strides before
    they divided by the scale. Workers take every stream that exists, whatever its name.
    """
    return f"{bucket.height}x{bucket.width}@{bucket.scale:g}"


def label(bucket: Bucket) -> str:
    """Return the bounded name of a bucket's size that metrics use."""
    return size_class(bucket.height, bucket.width)


def label_of(stream: str) -> str:
    """Return the same name as `label`, from the key of a stream."""
    size = stream.rpartition(":")[2].partition("@")[0]
    rows, _, columns = size.partition("x")
    return size_class(int(rows), int(columns))


def work(bucket: Bucket, steps: float, cost: float | None) -> float:
    """Predict seconds of work from seconds per megapixel; 0 while no worker has measured any: nothing is refused."""
    return (cost or 0.0) * steps * bucket.pixels / 1e6
