"""Gauges whose values are known elsewhere and read at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


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
