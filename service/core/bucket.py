"""Defines buckets: the requests that may share a batch. A bucket is a padded size and a scale.

Knows nothing of queues, batches or what a bucket costs.
"""

from __future__ import annotations

from typing import NamedTuple

#: Frames' sides are padded to multiples of this (the network's stride; a test compares it with model.dmvfn.config).
STRIDE = 16


class Bucket(NamedTuple):
    """Requests that can share a batch: padded size in pixels, and the scale at which flow is estimated."""

    height: int
    width: int
    scale: float

    @classmethod
    def of(cls, height: int, width: int, scale: float = 1.0) -> Bucket:
        """Return a frame's bucket. Reduced sides must be multiples of STRIDE too, hence the division by scale."""
        stride = round(STRIDE / scale)
        return cls(-(-height // stride) * stride, -(-width // stride) * stride, scale)

    @property
    def pixels(self) -> int:
        """Return the padded pixels of one frame."""
        return self.height * self.width

    @property
    def network_pixels(self) -> float:
        """Return the pixels at which the network runs."""
        return self.pixels * self.scale * self.scale
