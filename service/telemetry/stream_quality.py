"""What the metrics tell of live streams' pictures.

How good predictions were, judged by the frames that came later, and what concealed streams showed.
"""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.core.types import Method

#: dB.
PSNR_BUCKETS = (15, 20, 22.5, 25, 27.5, 30, 32.5, 35, 37.5, 40, 45, 50, 60)
#: Seconds.
LATE_BUCKETS = (0, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 1)
#: How far ahead was predicted: the next frame, or further.
AHEAD = ("1", "more")


class StreamQuality:
    """Instruments of `service.telemetry.metrics.Metrics`, on its registry. A version is a label while it is loaded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["method", "version", "ahead"]
        self._psnr = Histogram(
            "dmvfn_stream_psnr_db",
            "Predictions of live streams, against the frame that came (on samples).",
            labels,
            registry=registry,
            buckets=PSNR_BUCKETS,
        )
        # The gain is the difference of both means: a histogram of values below 0 has no sum, nor would rate() bear one.
        self._repeated = Histogram(
            "dmvfn_stream_repeated_psnr_db",
            "The frames they were predicted from, shown again, against the frame that came.",
            labels,
            registry=registry,
            buckets=PSNR_BUCKETS,
        )

        self._ticks = Counter(
            "dmvfn_stream_ticks", "Ticks of concealed streams, by what they showed.", ["source"], registry=registry
        )
        self._freezes = Counter(
            "dmvfn_stream_freezes",
            "Freezes of concealed streams as WebRTC counts them: as shown, and as repeating would have had them.",
            ["kind"],
            registry=registry,
        )
        self._frozen = Counter("dmvfn_stream_frozen_seconds", "Seconds of those freezes.", ["kind"], registry=registry)

        self._late = Histogram(
            "dmvfn_stream_show_late_seconds",
            "By how much clients had frames after these were to be seen; 0 is in time.",
            registry=registry,
            buckets=LATE_BUCKETS,
        )
        self._choices = Counter(
            "dmvfn_stream_predictor_changes",
            "Streams that went over to another predictor, which scored better, by that one.",
            ["predictor"],
            registry=registry,
        )
        for source in ("real", "blended", "predicted", "repeated"):
            self._ticks.labels(source)
        for kind in ("shown", "repeating"):
            self._freezes.labels(kind)
            self._frozen.labels(kind)

    def missed(self, seconds: float) -> None:
        """Record by how much a client had a frame after it was to be seen; below 0, before, counts as 0."""
        self._late.observe(max(0.0, seconds))

    def chosen(self, predictor: str) -> None:
        """Count a stream that goes over to `predictor`: flow, live, mix or dmvfn."""
        self._choices.labels(predictor).inc()

    def ticked(self, source: str) -> None:
        """Count a tick: `source` is real, blended, predicted or repeated."""
        self._ticks.labels(source).inc()

    def froze(self, kind: str, seconds: float) -> None:
        """Count a freeze of `seconds`, if any: `kind` is shown, or repeating (without predictions)."""
        if seconds > 0:
            self._freezes.labels(kind).inc()
            self._frozen.labels(kind).inc(seconds)

    def scored(self, method: Method, version: str, *, is_next: bool, psnr_db: float, repeated_db: float) -> None:
        """Record one prediction's score; `is_next`: it foresaw the next frame, and none further ahead."""
        labels = (method, version, AHEAD[not is_next])
        self._psnr.labels(*labels).observe(psnr_db)
        self._repeated.labels(*labels).observe(repeated_db)

    def gone(self, version: str) -> None:
        """Remove the labels of a version that was unloaded."""
        for method in Method:
            for ahead in AHEAD:
                for instrument in (self._psnr, self._repeated):
                    with contextlib.suppress(KeyError):
                        instrument.remove(method, version, ahead)
