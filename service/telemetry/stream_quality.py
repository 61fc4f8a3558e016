"""What the metrics tell of live streams' pictures: how good predictions were, judged by the frames that came later."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Histogram

from service.core.types import Method

#: dB.
PSNR_BUCKETS = (15, 20, 22.5, 25, 27.5, 30, 32.5, 35, 37.5, 40, 45, 50, 60)
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
