"""Defines buckets: the requests that may share a batch. A bucket is a padded size, a scale, a method and the weights.

Knows nothing of queues, batches or what a bucket costs.
"""

from __future__ import annotations

from typing import NamedTuple

from service.core.types import Method

#: Frames' sides are padded to multiples of this (the network's stride; a test compares it with model.dmvfn.config).
STRIDE = 16


class Bucket(NamedTuple):
    """Requests that can share a batch: padded size in pixels, the scale at which flow is estimated, method, weights.

    `weights` is the number of the loaded weights, counted from 0: a load gets a number that no other had.
    """

    height: int
    width: int
    scale: float
    method: Method = Method.DMVFN
    weights: int = 0

    @classmethod
    def of(cls, height: int, width: int, scale: float = 1.0, method: Method = Method.DMVFN, weights: int = 0) -> Bucket:
        """Return a frame's bucket. Reduced sides must be multiples of STRIDE too, hence the division by scale."""
        stride = round(STRIDE / scale)
        return cls(-(-height // stride) * stride, -(-width // stride) * stride, scale, method, weights)

    def text(self) -> str:
        """Return it for people, e.g. 256x448@0.5, or 256x448@1 flow #2 (by the third weights that were loaded)."""
        method = "" if self.method is Method.DMVFN else f" {self.method}"
        weights = f" #{self.weights}" if self.weights else ""
        return f"{self.height}x{self.width}@{self.scale:g}{method}{weights}"

    @property
    def pixels(self) -> int:
        """Return the padded pixels of one frame."""
        return self.height * self.width

    @property
    def network_pixels(self) -> float:
        """Return the pixels at which the network runs."""
        return self.pixels * self.scale * self.scale
