"""Collectors of our own: counts that wait until an answer is out, and gauges that are read at every scrape."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class DeferredCounts(Collector):
    """Counts that are due, from `add` until `settle` or a scrape, whichever comes first. Thread-safe.

    Build it before the metrics that it counts in: a registry reads its collectors in the order they were registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        registry.register(self)

    def __len__(self) -> int:
        """Return how many counts are due."""
        return len(self._due)

    def add(self, count: Callable[[], None]) -> None:
        """Have `count` called later, once, on any thread."""
        self._due.append(count)

    def settle(self) -> None:
        """Call what is due, in order; when it returns, all that was added before has been counted."""
        with self._lock:
            while self._due:
                self._due.popleft()()

    def describe(self) -> list[Metric]:
        """Return nothing: it has no metric of its own."""
        return []

    def collect(self) -> list[Metric]:
        """Settle, so that the metrics read next hold everything; return nothing."""
        self.settle()
        return []


class WatchedGauges(Collector):
    """Calls `source` at every scrape: (name without prefix, help, labels, value) each."""

    def __init__(self, source: Callable[[], Sequence[tuple[str, str, dict[str, str], float]]]) -> None:
        self._read = source

    def describe(self) -> list[Metric]:
        """Return nothing: the registry would else call `collect` now, when there is nothing to read yet."""
        return []

    def collect(self) -> list[Metric]:
        """Read the values, by family."""
        families: dict[str, GaugeMetricFamily] = {}
        for name, text, labels, value in self._read():
            family = families.setdefault(name, GaugeMetricFamily(f"dmvfn_{name}", text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return list(families.values())
