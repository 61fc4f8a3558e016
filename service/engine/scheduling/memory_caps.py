"""How many requests of a size a batch may hold: by items, by pixels, and less for a while after memory ran out."""

from __future__ import annotations

from service.core.bucket import Bucket
from service.core.types import Method

#: Full batches without running out of memory after which a halved limit is raised by one again.
RECOVER_AFTER = 50


class MemoryCaps:
    """Sizes whose batches are limited because the device ran out of memory with more; others have no cap."""

    def __init__(self, max_batch: int, max_batch_pixels: int) -> None:
        """Take the bounds of every batch: items, and padded pixels of all its frames."""
        self._max_batch, self._max_batch_pixels = max_batch, max_batch_pixels
        #: The most items, and full batches that ran since it was set.
        self._caps: dict[Bucket, tuple[int, int]] = {}

    def most(self, bucket: Bucket) -> int:
        """Return the most requests of this size that may run together; at least 1."""
        if bucket.method is not Method.DMVFN:
            return 1  # mixtures run one by one: more would run in parts and only fix their order too early
        most = min(self._max_batch, self._max_batch_pixels // bucket.pixels)
        if bucket in self._caps:
            most = min(most, self._caps[bucket][0])
        return max(1, most)

    def shrink(self, bucket: Bucket, items: int) -> None:
        """Limit batches of this bucket to `items` for a while: the device ran out of memory."""
        self._caps[bucket] = (max(1, items), 0)

    def record_batch(self, bucket: Bucket, items: int) -> None:
        """Note a batch that ran; after RECOVER_AFTER full ones the cap of its size is raised by one, up to none."""
        if bucket not in self._caps:
            return
        cap, full_batches = self._caps[bucket]
        if items < cap:
            return
        if full_batches + 1 < RECOVER_AFTER:
            self._caps[bucket] = (cap, full_batches + 1)
        elif cap + 1 < self._max_batch:
            self._caps[bucket] = (cap + 1, 0)
        else:
            del self._caps[bucket]
