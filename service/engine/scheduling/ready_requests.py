"""The requests that may run, in the order in which they should: the most urgent of all, and turns within each size."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from service.core.bucket import Bucket
from service.core.deadline import urgency
from service.core.types import Priority
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.fair_shares import FairShares
from service.engine.scheduling.request_state import RequestState


class HeapKey(NamedTuple):
    """Heap order: the number first; `seq` is unique, so entries are never compared."""

    key: float
    seq: int
    entry: Entry


@dataclass(slots=True)
class WaitingClient:
    """One client's ready requests, most urgent first, and its place in the turns since it began to wait."""

    place: float
    requests: list[HeapKey] = field(default_factory=list)


@dataclass(slots=True)
class FairQueue:
    """One deadline class of one bucket: clients take turns by `shares`, each client's own are ordered by urgency."""

    shares: FairShares
    clients: dict[str, WaitingClient] = field(default_factory=dict)
    _next: str = ""  #: whose turn it is, since `peek`
    _lowest: float = 0.0  #: place of those that wait, since `peek`

    def push(self, entry: Entry, key: float) -> None:
        """Add a request; `key` orders those of its client, lower first."""
        if entry.client not in self.clients:
            self.clients[entry.client] = WaitingClient(self.shares.place(entry.client))
        heapq.heappush(self.clients[entry.client].requests, HeapKey(key, entry.seq, entry))

    def peek(self) -> Entry | None:
        """Return the entry whose turn it is; those that wait no more are dropped on the way."""
        first: tuple[int, HeapKey] | None = None
        self._lowest = math.inf
        for client, waiting in list(self.clients.items()):
            own = waiting.requests
            while own and own[0].entry.state is not RequestState.READY:
                heapq.heappop(own)
            if not own:
                del self.clients[client]
                continue
            waiting.place = self.shares.moved(client, waiting.place)
            self._lowest = min(self._lowest, waiting.place)
            turn = (self.shares.turn(waiting.place), own[0])
            if first is None or turn < first:
                first, self._next = turn, client
        return None if first is None else first[1].entry

    def pop(self, seconds: float) -> None:
        """Remove the entry that `peek` showed, which takes so many seconds of the device: its client moves back."""
        waiting = self.clients[self._next]
        heapq.heappop(waiting.requests)
        self.shares.charge(self._next, waiting.place, seconds, self._lowest)


class ReadyRequests:
    """A fair queue for each bucket and deadline class, a heap for each priority; who waits no more is dropped late."""

    def __init__(self) -> None:
        self.shares = FairShares()
        self._queues: dict[Bucket, dict[int, FairQueue]] = {}
        #: A heap for each priority, the highest first.
        self._urgent: tuple[list[HeapKey], ...] = tuple([] for _ in Priority)

    def __len__(self) -> int:
        """Count the heaps' elements, tombstones included."""
        return sum(map(len, self._urgent))

    def add(self, entry: Entry) -> None:
        """Line up a request whose cost is known."""
        key = urgency(entry.enqueued_at, entry.deadline, entry.most_seconds)
        self._queues.setdefault(entry.bucket, {}).setdefault(entry.group, FairQueue(self.shares)).push(entry, key)
        heapq.heappush(self._urgent[entry.priority], HeapKey(key, entry.seq, entry))

    def most_urgent(self, older_than: float = -math.inf) -> Entry | None:
        """Return the request that must run first, or None where nothing is ready.

        One of a lower priority goes first where it has waited since before `older_than`.
        """
        heads = [self._head(heap) for heap in self._urgent]
        for head in reversed(heads):
            if head is not None and head.enqueued_at - head.waited < older_than:
                return head
        return next((head for head in heads if head is not None), None)

    @staticmethod
    def _head(heap: list[HeapKey]) -> Entry | None:
        while heap and heap[0].entry.state is not RequestState.READY:
            heapq.heappop(heap)
        return heap[0].entry if heap else None

    def queues(self, bucket: Bucket) -> dict[int, FairQueue]:
        """Return the fair queues of this size by deadline class; who fills a batch pops from them."""
        return self._queues[bucket]

    def drop_empty(self, bucket: Bucket) -> None:
        """Forget a size of which nothing is ready any more."""
        if not self._queues[bucket]:
            del self._queues[bucket]

    def trim(self, most: int) -> None:
        """Drop the heaps' tombstones where they have more than `most` elements."""
        if len(self) > most:
            for heap in self._urgent:
                heap[:] = [key for key in heap if key.entry.state is RequestState.READY]
                heapq.heapify(heap)

    def clear(self) -> None:
        """Forget all."""
        self._queues, self._urgent = {}, tuple([] for _ in Priority)
