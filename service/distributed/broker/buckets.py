"""Which requests may share a batch, and what one is predicted to take."""

from __future__ import annotations

from service.telemetry.metrics import size_class

#: Sides are padded to multiples of this by the network.
STRIDE = 16


def padded(height: int, width: int) -> tuple[int, int]:
    """The size a frame has on the device, pixels."""
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def bucket(height: int, width: int, scale: float) -> str:
    """The name of a stream: one padded size and scale. Has no colon, which parts the words of a key."""
    rows, columns = padded(height, width)
    return f"{rows}x{columns}@{scale:g}"


def label(height: int, width: int) -> str:
    """The bounded name that metrics use."""
    return size_class(*padded(height, width))


def label_of(stream: str) -> str:
    """The same, from the key of a stream."""
    size = stream.rpartition(":")[2].partition("@")[0]
    rows, _, columns = size.partition("x")
    return size_class(int(rows), int(columns))


def work(height: int, width: int, steps: int, cost: float | None) -> float:
    """Predicted seconds, given seconds per megapixel; 0 while no worker has measured any: nothing is refused on it."""
    rows, columns = padded(height, width)
    return (cost or 0.0) * steps * rows * columns / 1e6
