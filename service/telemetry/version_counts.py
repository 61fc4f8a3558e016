"""What the metrics tell of several versions of the weights: which predict, which were loaded, which lost their share.

A version is a label while it is loaded, and no longer: the operator chooses them, callers do not.
"""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Histogram


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
        self._shadows = Counter(
            "dmvfn_version_shadows",
            "Requests picked for a version that shadows the default, by what came of it.",
            ["outcome"],
            registry=registry,
        )
        self._agreement = Histogram(
            "dmvfn_version_shadow_agreement_db",
            "PSNR between a shadowing version's answer and the default's.",
            buckets=(10, 15, 20, 25, 30, 35, 40, 50, 60),
            registry=registry,
        )
        self._ratio = Histogram(
            "dmvfn_version_shadow_time_ratio",
            "A shadowing version's time on the device for a request, divided by the default's.",
            buckets=(0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2, 4),
            registry=registry,
        )
        self._shadows_ended = Counter(
            "dmvfn_version_shadows_ended", "Shadowing versions that were found to be worse.", registry=registry
        )
        for outcome in ("ok", "failed"):
            self._loads.labels(outcome)
        for outcome in ("compared", "failed", "skipped"):
            self._shadows.labels(outcome)

    def predicted(self, version: str) -> None:
        """Count a prediction."""
        self._predictions.labels(version).inc()

    def loaded(self, *, succeeded: bool) -> None:
        """Count a version that was loaded, or could not be."""
        self._loads.labels("ok" if succeeded else "failed").inc()

    def share_returned(self) -> None:
        """Count a share that was taken back."""
        self._returns.inc()

    def shadowed(self, outcome: str, agreement_db: float | None = None, time_ratio: float | None = None) -> None:
        """Count a request that a shadowing version was to answer again: compared, failed or skipped."""
        self._shadows.labels(outcome).inc()
        if agreement_db is not None:
            self._agreement.observe(agreement_db)
        if time_ratio is not None:
            self._ratio.observe(time_ratio)

    def shadow_ended(self) -> None:
        """Count a shadowing version that was found to be worse."""
        self._shadows_ended.inc()

    def gone(self, version: str) -> None:
        """Remove the label of a version that was unloaded."""
        with contextlib.suppress(KeyError):
            self._predictions.remove(version)
