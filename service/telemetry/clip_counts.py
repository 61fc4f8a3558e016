"""What the metrics tell of clips that are made as jobs, and of the predicted frames that are kept for them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class ClipCounts:
    """Counters of `service.telemetry.metrics.Metrics`, on its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter("dmvfn_clip_jobs", "Clips as jobs, by how they ended.", ["outcome"], registry=registry)
        self._takeovers = Counter(
            "dmvfn_clip_takeovers", "Clips taken over from a process that went away.", registry=registry
        )
        self._frames = Counter(
            "dmvfn_clip_frames", "Predicted frames of clips, by where they came from.", ["source"], registry=registry
        )
        self._unkept = Counter(
            "dmvfn_clip_ranges_unkept", "Ranges of predicted frames for which there was no room.", registry=registry
        )
        for outcome in ("done", "failed", "cancelled"):
            self._jobs.labels(outcome)
        for source in ("predicted", "kept"):
            self._frames.labels(source)

    def ended(self, outcome: str) -> None:
        """Count a clip that ended: `outcome` is done, failed or cancelled."""
        self._jobs.labels(outcome).inc()

    def taken_over(self) -> None:
        """Count a clip that another process had begun."""
        self._takeovers.inc()

    def frames(self, count: int, *, were_kept: bool) -> None:
        """Count predicted frames of a clip in Redis: kept by who made the clip before, or predicted now."""
        self._frames.labels("kept" if were_kept else "predicted").inc(count)

    def range_unkept(self) -> None:
        """Count a range that is predicted again should its maker die."""
        self._unkept.inc()
