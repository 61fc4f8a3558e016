"""The requests that may run, in the order in which they should: the most urgent of all, and turns within each size."""

from __future__ import annotations

import heapq

from service.core.bucket import Bucket
from service.core.deadline import urgency
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.fair_queue import FairQueue
from service.engine.scheduling.request_state import RequestState


class ReadyRequests:
    """A fair queue for each bucket and deadline class, and one heap over all. Who waits no more is dropped lazily."""

    def __init__(self) -> None:
        self._queues: dict[Bucket, dict[int, FairQueue]] = {}
        self._urgent: list[tuple[int, float, int, Entry]] = []

    def __len__(self) -> int:
        """Count the heap's elements, tombstones included."""
        return len(self._urgent)

    def add(self, entry: Entry) -> None:
        """Line up a request whose cost is known."""
        key = urgency(entry.enqueued_at, entry.deadline, entry.most_seconds)
        self._queues.setdefault(entry.bucket, {}).setdefault(entry.group, FairQueue()).push(entry, key)
        heapq.heappush(self._urgent, (int(entry.priority), key, entry.seq, entry))

    def most_urgent(self) -> Entry | None:
        """Return the request that must run first, or None where nothing is ready."""
        while self._urgent and self._urgent[0][3].state is not RequestState.READY:
            heapq.heappop(self._urgent)
        return self._urgent[0][3] if self._urgent else None

    def queues(self, bucket: Bucket) -> dict[int, FairQueue]:
        """Return the fair queues of this size by deadline class; who fills a batch pops from them."""
        return self._queues[bucket]

    def drop_empty(self, bucket: Bucket) -> None:
        """Forget a size of which nothing is ready any more."""
        if not self._queues[bucket]:
            del self._queues[bucket]

    def trim(self, most: int) -> None:
        """Drop the heap's tombstones where it has more than `most` elements."""
        if len(self._urgent) > most:
            self._urgent = [key for key in self._urgent if key[3].state is RequestState.READY]
            heapq.heapify(self._urgent)

    def clear(self) -> None:
        """Forget all."""
        self._queues, self._urgent = {}, []
