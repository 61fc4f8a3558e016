"""Waiting requests by the latest moment at which each could still start and be in time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from service.engine.scheduling.entry import Entry
from service.engine.scheduling.ready_requests import HeapKey
from service.engine.scheduling.request_state import WAITING


class ExpiryQueue:
    """A heap of moments; one request may stand under several. Who waits no more is dropped lazily."""

    def __init__(self) -> None:
        self._heap: list[HeapKey] = []

    def __len__(self) -> int:
        """Count the heap's elements, tombstones included."""
        return len(self._heap)

    def add(self, entry: Entry, latest_start: float) -> None:
        """Put a request under the moment after which `pop_before` shows it."""
        heapq.heappush(self._heap, HeapKey(latest_start, entry.seq, entry))

    def pop_before(self, now: float) -> Entry | None:
        """Remove and return a waiting request whose moment is before `now`, or None."""
        while self._heap and self._heap[0].key < now:
            entry = heapq.heappop(self._heap).entry
            if entry.state in WAITING:
                return entry
        return None

    def rebuild(self, moments: Iterable[tuple[Entry, float]]) -> None:
        """Replace all by these requests and their latest starts."""
        self._heap = [HeapKey(latest_start, entry.seq, entry) for entry, latest_start in moments]
        heapq.heapify(self._heap)
