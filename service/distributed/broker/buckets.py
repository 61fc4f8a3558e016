"""Buckets: the requests that may share a batch, their names, and the seconds one is predicted to take."""

from __future__ import annotations

from service.telemetry.metrics import size_class

#: Sides are padded to multiples of this by the network.
STRIDE = 16


def padded(height: int, width: int) -> tuple[int, int]:
    """Return the height and width that a frame has on the device, pixels."""
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def bucket(height: int, width: int, scale: float) -> str:
    """Name a stream: one padded size and scale. The name has no colon, which parts the words of a key."""
    rows, columns = padded(height, width)
    return f"{rows}x{columns}@{scale:g}"


def label(height: int, width: int) -> str:
    """Return the bounded name of a frame size that metrics use."""
    return size_class(*padded(height, width))


def label_of(stream: str) -> str:
    """Return the same name as `label`, from the key of a stream."""
    size = stream.rpartition(":")[2].partition("@")[0]
    rows, _, columns = size.partition("x")
    return size_class(int(rows), int(columns))


def work(height: int, width: int, steps: int, cost: float | None) -> float:
    """Predict seconds of work from seconds per megapixel; 0 while no worker has measured any: nothing is refused."""
    rows, columns = padded(height, width)
    return (cost or 0.0) * steps * rows * columns / 1e6
