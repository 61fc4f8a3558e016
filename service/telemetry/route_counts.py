"""What the metrics tell of requests that got another route than they would have had."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from service.core.substitute import Substitute


class RouteCounts:
    """Counters of `service.telemetry.metrics.Metrics`, on its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._empty = Counter(
            "dmvfn_empty_routes", "Routes that were empty and got their most probable block.", registry=registry
        )
        self._shortened = Counter(
            "dmvfn_routes_shortened", "Adaptive routes cut to meet a deadline.", registry=registry
        )
        substitutes = Counter(
            "dmvfn_adaptive_substitutes",
            "What adaptive requests got in place of more.",
            ["kind"],
            registry=registry,
        )
        self._substitutes = {kind: substitutes.labels(kind) for kind in Substitute}

    def was_empty(self) -> None:
        """Count a sampled or thresholded route that was empty."""
        self._empty.inc()

    def shortened(self, substitute: Substitute) -> None:
        """Count an adaptive request that got less than it would have had, and what it got."""
        self._shortened.inc()
        self._substitutes[substitute].inc()
