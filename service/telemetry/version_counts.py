"""What the metrics tell of several versions of the weights: which predict, which were loaded, which lost their share.

A version is a label while it is loaded, and no longer: the operator chooses them, callers do not.
"""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter


class VersionCounts:
    """Counters of `service.telemetry.metrics.Metrics`, on its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._predictions = Counter(
            "dmvfn_version_predictions",
            "Predictions by each loaded version of the weights.",
            ["version"],
            registry=registry,
        )
        self._loads = Counter(
            "dmvfn_version_loads", "Versions loaded while the service runs.", ["outcome"], registry=registry
        )
        self._returns = Counter(
            "dmvfn_version_shares_returned", "Shares of requests taken back from a worse version.", registry=registry
        )
        for outcome in ("ok", "failed"):
            self._loads.labels(outcome)

    def predicted(self, version: str) -> None:
        """Count a prediction."""
        self._predictions.labels(version).inc()

    def loaded(self, *, succeeded: bool) -> None:
        """Count a version that was loaded, or could not be."""
        self._loads.labels("ok" if succeeded else "failed").inc()

    def share_returned(self) -> None:
        """Count a share that was taken back."""
        self._returns.inc()

    def gone(self, version: str) -> None:
        """Remove the label of a version that was unloaded."""
        with contextlib.suppress(KeyError):
            self._predictions.remove(version)
