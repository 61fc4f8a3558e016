"""Every Prometheus metric, behind methods named after events. Labels come from closed sets, never from requests.

The registry is an argument, so that tests and several services in one process do not meet.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.core.types import BLOCKS, Method
from service.telemetry.background import Background as Background
from service.telemetry.clip_counts import ClipCounts
from service.telemetry.collectors import DeferredCounts, WatchedGauges
from service.telemetry.route_counts import RouteCounts
from service.telemetry.stream_quality import StreamQuality
from service.telemetry.version_counts import VersionCounts

#: Seconds, 1 ms to 10 s (30 s for long rollouts).
LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: Requests that run, or are claimed, together.
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
#: Buckets' names: by padded pixels, so that the label stays bounded whatever sizes callers send.
SIZE_CLASSES = ((512 * 512, "le_512x512"), (736 * 1280, "le_720p"), (1088 * 1920, "le_1080p"))
LARGEST = "gt_1080p"


class Transport(enum.StrEnum):
    """The protocol that a request came by."""

    REST = "rest"
    GRPC = "grpc"
    V2_REST = "v2_rest"
    V2_GRPC = "v2_grpc"
    WEBSOCKET = "websocket"
    JOB = "job"


class Outcome(enum.StrEnum):
    """How a request ended."""

    OK = "ok"
    INVALID = "invalid"
    REJECTED = "rejected"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ERROR = "error"


class Stage(enum.StrEnum):
    """Parts of a request's time."""

    DECODE = "decode"
    QUEUE = "queue"
    ROUTE = "route"
    BLOCKS = "blocks"
    MOTION = "motion"
    MIXING = "mixing"
    ENCODE = "encode"


def size_class(height: int, width: int) -> str:
    """Return the bounded label of a padded size."""
    return next((name for pixels, name in SIZE_CLASSES if height * width <= pixels), LARGEST)


class Metrics:
    """The service's instruments on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.deferred = DeferredCounts(registry)  #: before all others: a scrape settles it first
        self._define_requests()
        self._define_batches()
        self._define_model()
        self._define_streams()
        self._define_jobs()
        self._define_state()
        self.routes = RouteCounts(registry)
        self.versions = VersionCounts(registry)
        self.stream_quality = StreamQuality(registry)
        self.clips = ClipCounts(registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dmvfn_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"dmvfn_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"dmvfn_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _define_requests(self) -> None:
        self._requests = self._counter("requests", "Requests and streams ended.", "transport", "endpoint", "outcome")
        #: Of each combination that has been counted: looking a series up by its labels costs more than counting.
        self._request_series: dict[tuple[Transport, str, Outcome], tuple[Counter, Histogram]] = {}
        self._request_seconds = self._histogram(
            "request_duration_seconds", "From arrival to answer.", LATENCY_BUCKETS, "transport", "endpoint"
        )
        self._stage_seconds = self._histogram("stage_duration_seconds", "Time by stage.", LATENCY_BUCKETS, "stage")
        self._rejected = self._counter("rejected", "Requests refused on arrival.", "reason", "bucket")
        self._deadline_missed = self._counter("deadline_missed", "Deadlines missed.", "phase")
        self._cancelled = self._counter("cancelled", "Requests whose caller left.", "phase")
        # Looked up once: finding a series by its labels costs more than counting, and every frame counts a dozen.
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in Stage}

    def _define_batches(self) -> None:
        self._batches = self._counter("batches", "Batches run on the device.", "bucket")
        self._batch_size = self._histogram("batch_size", "Requests in a batch.", BATCH_SIZES, "bucket")
        self._batch_limit = self._counter("batch_limit", "What kept a batch from growing.", "reason")
        self._isolated = self._counter("batch_isolated_errors", "Items that failed alone after their batch was split.")
        self._oom = self._counter("oom", "Times the device ran out of memory.")
        self._cost_error = self._histogram(
            "cost_model_error_ratio",
            "Measured over predicted time of a batch.",
            (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 4),
            "bucket",
        )
        self._busy = self._counter("device_busy_seconds", "Time the device thread spent on routes and batches.")
        self._memory = self._gauge("device_memory_bytes", "Memory of the device.", "kind")
        self._peak = self._gauge("device_peak_flops", "FLOPs a second the device can do, as set.", "dtype")

    def _define_model(self) -> None:
        self._frames = self._counter("frames_predicted", "Frames predicted.", "bucket")
        self._flops = self._counter(
            "model_flops",
            "Floating-point operations executed: 2 per multiply-add, convolutions and the routing's linear layer only.",
            "component",
        )
        self._flops_saved = self._counter("model_flops_saved", "FLOPs of the blocks that routes skipped.")
        self._mixture_flops = self._counter("mixture_flops", "FLOPs of mixtures of motions, convolutions only.")
        self._request_flops = self._histogram(
            "request_flops", "FLOPs of one request.", (1e9, 3e9, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12), "bucket"
        )
        self._route_blocks = self._histogram("route_blocks", "Blocks in a route.", tuple(range(1, 10)))
        self._blocks = self._counter("block_executions", "Samples each block ran on.", "block")
        self._carried = self._counter("frames_carried", "Frames of a moment t, carried on from another's motion.")
        self._routing_flops = self._flops.labels("routing")
        predictions = self._counter("predictions", "Predictions answered, by what made them.", "method")
        self._predictions = {method: predictions.labels(method) for method in Method}
        names = [f"block{i}" for i in range(1, BLOCKS + 1)]
        self._block_flops = [self._flops.labels(name) for name in names]
        self._block_runs = [self._blocks.labels(name) for name in names]

    def _define_streams(self) -> None:
        self._streams = self._gauge("streams_active", "Open streams.", "transport")
        self._stream_frames = self._counter("stream_frames", "Frames that came in by stream.", "outcome")
        self._first_frame = self._histogram(
            "first_frame_seconds", "From stream opening to first answer.", LATENCY_BUCKETS
        )

    def _define_jobs(self) -> None:
        self._redelivered = self._counter("redis_redeliveries", "Items claimed again, by why.", "why")
        for why in ("lapsed", "handed_back"):
            self._redelivered.labels(why)
        self._lease_lost = self._counter("redis_lease_lost", "Finished work refused: another worker held the lease.")
        self._dead = self._counter("redis_dead_letters", "Jobs given up after too many deliveries.")
        self._claimed = self._histogram("redis_claim_size", "Items in a claim.", BATCH_SIZES, "bucket")
        self._webhooks = self._counter("webhooks", "Webhook deliveries.", "outcome")

    def _define_state(self) -> None:
        self._ready = self._gauge("ready", "1 while new work is taken.")
        self._draining = self._gauge("draining", "1 from SIGTERM on.")
        self._build = self._gauge("build_info", "Constant 1.", "version", "python", "torch")
        self._model = self._gauge("model_info", "Constant 1.", "version", "sha256", "device", "dtype")
        self._background = self._counter("background_failures", "Failures of background work, restarted since.", "task")
        for task in Background:  # at 0 from the start, or the first failure would be no increase
            self._background.labels(task)

    @classmethod
    def unseen(cls) -> Metrics:
        """Build metrics on a registry that nobody scrapes: for commands that run an engine and end."""
        return cls(CollectorRegistry())

    # --- requests -------------------------------------------------------------------------------------------------

    def request_done(self, transport: Transport, endpoint: str, outcome: Outcome, seconds: float) -> None:
        """Count one answered request; `endpoint` is a route's template, never a path."""
        key = (transport, endpoint, outcome)
        if (series := self._request_series.get(key)) is None:
            series = self._requests.labels(*key), self._request_seconds.labels(transport, endpoint)
            self._request_series[key] = series
        series[0].inc()
        series[1].observe(seconds)

    def stream_ended(self, transport: Transport, endpoint: str, outcome: Outcome) -> None:
        """Count one stream among the requests; how long it lasted is no time to an answer."""
        self._requests.labels(transport, endpoint, outcome).inc()

    def stage_took(self, stage: Stage, seconds: float) -> None:
        """Record the seconds that one stage of one request took."""
        self._stages[stage].observe(seconds)

    def rejected(self, reason: str, bucket: str) -> None:
        """Count a request refused on arrival; `reason` is a ServiceError's reason or code."""
        self._rejected.labels(reason, bucket).inc()

    def deadline_missed(self, phase: str, *, is_covered: bool = False) -> None:
        """Count a missed deadline: `phase` is admit (refused at once), queue (expired waiting) or late (answered).

        One that `is_covered` is none: whoever asked answers by itself.
        """
        if not is_covered:
            self._deadline_missed.labels(phase).inc()

    def cancelled(self, phase: str) -> None:
        """Count a withdrawn request: `phase` is queue, exec or send."""
        self._cancelled.labels(phase).inc()

    # --- batches --------------------------------------------------------------------------------------------------

    def batch_ran(
        self, bucket: str, size: int, limit: str, seconds: float, predicted_seconds: float | None, busy_seconds: float
    ) -> None:
        """Count one batch of one bucket; `limit` says why it was not larger: empty, max, slack or vram."""
        self._batches.labels(bucket).inc()
        self._batch_size.labels(bucket).observe(size)
        self._batch_limit.labels(limit).inc()
        self._busy.inc(busy_seconds)
        if predicted_seconds:
            self._cost_error.labels(bucket).observe(seconds / predicted_seconds)

    def frame_predicted(
        self, bucket: str, route: Sequence[bool], routing_flops: int, block_flops: Sequence[int]
    ) -> None:
        """Count one frame; `block_flops[i]` is the cost of block i at this size, run or not."""
        self._frames.labels(bucket).inc()
        self._route_blocks.observe(sum(route))
        self._routing_flops.inc(routing_flops)
        for i, (runs, flops) in enumerate(zip(route, block_flops, strict=True)):
            if runs:
                self._block_flops[i].inc(flops)
                self._block_runs[i].inc()
        self._flops_saved.inc(sum([flops for runs, flops in zip(route, block_flops, strict=True) if not runs]))

    def frame_mixed(self, bucket: str, flops: int) -> None:
        """Count one frame of a mixture; `flops`: its head's, and those of the network among its candidates."""
        self._frames.labels(bucket).inc()
        self._mixture_flops.inc(flops)

    def frame_carried(self, bucket: str) -> None:
        """Count one frame of a moment `t`, to which the motion of another was carried."""
        self._frames.labels(bucket).inc()
        self._carried.inc()

    def answered(self, bucket: str, method: Method, flops: int) -> None:
        """Count one answered prediction and its FLOPs."""
        self._predictions[method].inc()
        self._request_flops.labels(bucket).observe(flops)

    def item_isolated(self) -> None:
        """Count one item that failed after its batch was split down to it."""
        self._isolated.inc()

    def out_of_memory(self) -> None:
        """Count an out-of-memory error of the device; the batch is halved."""
        self._oom.inc()

    def device_memory(self, kind: str, value: int) -> None:
        """Set the device's memory in bytes: `kind` is used or total."""
        self._memory.labels(kind).set(value)

    def device_peak(self, dtype: str, flops: float) -> None:
        """Set the device's peak rate, FLOPs a second; where it is not known this is not called."""
        self._peak.labels(dtype).set(flops)

    # --- streams --------------------------------------------------------------------------------------------------

    def stream_opened(self, transport: Transport) -> None:
        """Count a stream that began."""
        self._streams.labels(transport).inc()

    def stream_closed(self, transport: Transport) -> None:
        """Count a stream that ended, however."""
        self._streams.labels(transport).dec()

    def stream_frame(self, outcome: str) -> None:
        """Count a stream's frame: `outcome` is predicted, first, dropped, scene_cut, reset or error."""
        self._stream_frames.labels(outcome).inc()

    def first_frame(self, seconds: float) -> None:
        """Record the seconds from a stream's opening to its first answer."""
        self._first_frame.observe(seconds)

    # --- jobs over Redis ------------------------------------------------------------------------------------------

    def claimed(self, bucket: str, items: int) -> None:
        """Record that a worker claimed this many items of one bucket at once."""
        self._claimed.labels(bucket).observe(items)

    def redelivered(self, *, handed_back: bool) -> None:
        """Count an item that was claimed again: its worker gave it up, or fell silent."""
        self._redelivered.labels("handed_back" if handed_back else "lapsed").inc()

    def lease_lost(self) -> None:
        """Count a finished job that was refused because another worker owns it now."""
        self._lease_lost.inc()

    def dead_letter(self) -> None:
        """Count a job that was given up."""
        self._dead.inc()

    def webhook(self, outcome: str) -> None:
        """Count a webhook delivery: `outcome` is delivered or failed."""
        self._webhooks.labels(outcome).inc()

    def background_failed(self, task: Background) -> None:
        """Count background work that raised, or ended though it should not."""
        self._background.labels(task).inc()

    # --- state ----------------------------------------------------------------------------------------------------

    def ready(self, value: bool) -> None:
        """Set whether new work is taken."""
        self._ready.set(value)

    def ready_while(self, ask: Callable[[], bool]) -> None:
        """Call `ask` at every scrape from here on: a drain, or a Redis that went away, shows at once."""
        self._ready.set_function(lambda: float(ask()))

    def draining(self) -> None:
        """Note that SIGTERM was received."""
        self._draining.set(1)

    def about(self, *, version: str, python: str, torch: str) -> None:
        """Set the running release's labels."""
        self._build.labels(version, python, torch).set(1)

    def model(self, *, version: str, sha256: str, device: str, dtype: str) -> None:
        """Set the served model's labels."""
        self._model.labels(version, sha256, device, dtype).set(1)

    def model_gone(self, *, version: str, sha256: str, device: str, dtype: str) -> None:
        """Remove the labels of a version that was unloaded."""
        self._model.remove(version, sha256, device, dtype)
        self.versions.gone(version)
        self.stream_quality.gone(version)

    def watch(self, source: Callable[[], Sequence[tuple[str, str, dict[str, str], float]]]) -> None:
        """Call `source` at every scrape: (name without prefix, help, labels, value) of gauges known elsewhere."""
        self.registry.register(WatchedGauges(source))
