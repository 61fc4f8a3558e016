"""Coroutines ask for predictions; one device thread answers them in batches.

Implements `service.core.interfaces.Engine`.

Decides nothing itself: who waits, who runs and who is refused is `service.engine.scheduling.batch_scheduler`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from service.core.errors import DeadlineExceeded, ServiceError, TooLarge, Unavailable
from service.core.interfaces import Readiness, ServedModel
from service.core.types import MAX_SEED, PredictRequest, PredictResult, RoutePolicy
from service.engine.batch_counts import Answers
from service.engine.device import Device, bucket_of
from service.engine.device_thread import DeviceThread, Reports
from service.engine.request_queue import Pending, RequestQueue
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.request_state import WAITING, RequestState
from service.engine.versions.repository import VersionRepository
from service.engine.versions.source import VersionSource
from service.engine.versions.version_table import VersionRow
from service.engine.watchdog import Watchdog
from service.settings import Settings
from service.telemetry.metrics import Metrics, size_class

log = logging.getLogger(__name__)

#: Seconds after which to try again while the service starts or drains: another replica, or this one, may be ready.
RETRY_SOON = 1.0
#: Seconds that the device thread gets to finish what it does when all is over.
JOIN_S = 5.0

REFUSING = "For how long an idle device has refused all by prediction alone and answered none; 0 once it answers."
#: In which stage a caller leaves, for the metrics, by its request's state; in others nobody waits any more.
CANCEL_STAGES = {
    RequestState.ROUTING: "queue",
    RequestState.READY: "queue",
    RequestState.RUNNING: "exec",
    RequestState.DONE: "send",
    RequestState.FAILED: "send",
}
MESSAGES = {
    "starting": "the service is starting",
    "draining": "the service is shutting down",
    "device_lost": "the device is lost",
}


class Batcher:
    """One device behind an event loop. `start`, then `predict` from any task of that loop, then `close`.

    Who wants accepted requests finished waits for them before `close`, as `service.backends.DrainingEngine` does.
    """

    def __init__(
        self,
        build: Callable[[], Device],
        settings: Settings,
        metrics: Metrics,
        *,
        on_fatal: Callable[[BaseException], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        source: VersionSource | None = None,
    ) -> None:
        """Prepare; nothing runs before `start`.

        `build` runs on the device thread. `on_fatal` is called on the event loop when only a new process helps.
        `source`: where further versions of the weights come from; None: there are none.
        """
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._on_fatal = on_fatal
        self._queue = RequestQueue(
            BatchScheduler(
                QueueLimits(
                    max_batch=settings.max_batch,
                    max_batch_pixels=settings.max_batch_pixels,
                    max_items=settings.max_queue_items,
                    max_bytes=settings.max_queue_bytes,
                    client_items=settings.max_client_items,
                )
            )
        )
        reports = Reports(
            on_start=partial(self._call, self._finish_start),
            on_start_failed=partial(self._call, self._fail_start),
            on_answers=partial(self._call, self._deliver),
            on_loss=partial(self._call, self._lose_device),
        )
        self._thread = DeviceThread(build, settings.warmup_sizes, self._queue, metrics, reports, clock)
        self.versions = VersionRepository(
            source, self._thread, self._call, metrics, settings.max_versions, self.predict
        )
        self._watchdog = Watchdog(
            settings.watchdog_s,
            lambda: self._thread.busy,
            lambda: len(self._queue) > 0,
            self._lose_device,
            clock,
        )
        self._ids = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._startup: asyncio.Future[ServedModel] | None = None
        self._reason: str | None = "starting"
        self._start_seconds = RETRY_SOON
        #: When the first and the last request were refused by prediction alone since one was answered; None: none was.
        self._refusal_times: tuple[float, float] | None = None

    # --- Engine ---------------------------------------------------------------------------------------------------

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Return the answer, or raise a ServiceError, by the deadline. Cancelling withdraws the request."""
        if self._reason is not None:
            raise self._refusal(request)
        if request.nbytes > (limit := self._settings.max_queue_bytes):  # nor would an empty queue take it later
            raise TooLarge(f"both frames have {request.nbytes} bytes; the queue takes {limit}", field="current")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[PredictResult] = loop.create_future()
        row = self.versions.table.choose(request)
        pending = self._pending(request, future, row)
        # First what can be done before the device thread is woken: it needs the interpreter then.
        timer = loop.call_later(max(0.0, pending.entry.deadline - self._clock()), self._answer_at_deadline, pending)
        self._watchdog.arm(loop)
        row.enter()
        try:
            self._enqueue(pending)
            result = await future
            self.versions.record(row, request, result)
            return result
        except ServiceError as error:
            self.versions.record(row, request, error)
            raise
        except asyncio.CancelledError:
            if (stage := CANCEL_STAGES.get(self._queue.cancel(pending))) is not None:
                self._metrics.cancelled(stage)
            raise
        finally:
            timer.cancel()
            row.leave()

    def readiness(self) -> Readiness:
        """Tell whether new work is taken, and why not."""
        return Readiness(self._reason is None, self._reason, self._refusing_seconds())

    def model(self) -> ServedModel:
        """Return the description of the default version. Raises Unavailable before `start` is done."""
        return self.versions.table.default.served()

    @property
    def scheduling(self) -> RequestQueue:
        """Return the device's scheduling, for a worker of a queue that feeds this engine."""
        return self._queue

    async def start(self) -> None:
        """Load and warm up; ready when it returns. Raises what the device raised if it cannot be built."""
        self._loop = asyncio.get_running_loop()
        self._startup = self._loop.create_future()
        start_time = self._clock()
        self._thread.start()
        self.versions.begin(await self._startup)
        self._start_seconds = max(RETRY_SOON, self._clock() - start_time)
        self._reason = None
        self._metrics.watch(self._gauges)
        self._metrics.ready(True)

    async def close(self) -> None:
        """Stop the device thread; whoever still waits is told so. To be called once, also after a failed start."""
        if self._reason != "device_lost":
            self._reason = "draining"
        self._metrics.ready(False)
        self._give_up("draining", RETRY_SOON)
        self.versions.close()
        self._watchdog.stop()
        self._queue.close()
        if self._loop is not None and not await asyncio.to_thread(self._thread.join, JOIN_S):
            log.error("the device thread did not end within %.0f s; it is left behind", JOIN_S)

    def debug(self) -> dict[str, Any]:
        """Return the queue and the last decisions, for /debug/batcher."""
        items, nbytes, age, inflight, work = self._queue.gauges(self._clock())
        cost = None if self._queue.device_costs is None else self._queue.device_costs.network
        return {
            "ready": self._reason is None,
            "reason": self._reason,
            "queue": {"items": items, "bytes": nbytes, "oldest_age_seconds": age, "predicted_work_seconds": work},
            "inflight": inflight,
            "refusing_seconds": self._refusing_seconds(),
            "waiting": {bucket.text(): count for bucket, count in self._queue.sizes().items()},
            "cost": None
            if cost is None
            else {
                "pass_seconds": cost.passes,
                "pixel_seconds": cost.pixel,
                "routing_seconds_per_pixel": cost.routing_rate,
                "block_seconds_per_pixel": list(cost.blocks),
                "margin_ratio": cost.margin,
                "block_usage": list(cost.usage),
            },
            "decisions": [
                {**dataclasses.asdict(decision), "bucket": list(decision.bucket)}
                for decision in list(self._thread.decisions)
            ],
        }

    # --- requests -------------------------------------------------------------------------------------------------

    def _enqueue(self, pending: Pending) -> None:
        try:
            self._queue.enqueue(pending, self._clock())
        except ServiceError as refusal:
            self._count_refusal(refusal, pending.request)
            raise

    def _pending(self, request: PredictRequest, future: asyncio.Future[PredictResult], row: VersionRow) -> Pending:
        choice = request.options.route
        if choice.policy is RoutePolicy.SAMPLE and choice.seed is None:
            with_seed = dataclasses.replace(choice, seed=secrets.randbelow(MAX_SEED + 1))
            request = dataclasses.replace(request, options=dataclasses.replace(request.options, route=with_seed))
        deadline = request.deadline
        if deadline is None:
            deadline = self._clock() + self._settings.default_deadline_ms / 1000
        entry = Entry(
            # Ours, not the caller's, which need not be unique.
            id=str(next(self._ids)),
            bucket=bucket_of(request, row.served().method_for(request.options), row.number),
            deadline=deadline,
            route_options=(),
            client=request.client,
            priority=request.priority,
            nbytes=request.nbytes,
            steps=request.options.work,
            waited=request.waited,
            is_trial=request.is_trial,
        )
        return Pending(request, entry, partial(_resolve, future))

    def _refusal(self, request: PredictRequest) -> Unavailable:
        reason = self._reason or "starting"
        self._metrics.rejected(reason, self._label(request))
        return self._unavailable(reason, self._start_seconds if reason == "device_lost" else RETRY_SOON)

    def _count_refusal(self, error: ServiceError, request: PredictRequest) -> None:
        is_late = isinstance(error, DeadlineExceeded)
        if not (is_late and request.is_covered):
            self._metrics.rejected(error.reason or error.code, self._label(request))
        if is_late:
            self._metrics.deadline_missed("admit", is_covered=request.is_covered)
            if error.reason == "unmeetable" and error.retry_after is None:  # by an idle device
                now = self._clock()
                self._refusal_times = (self._refusal_times[0] if self._refusal_times else now, now)

    def _refusing_seconds(self) -> float:
        """Return the seconds an idle device has refused by prediction alone and answered nothing; 0: it has not."""
        return self._refusal_times[1] - self._refusal_times[0] if self._refusal_times else 0.0

    def _answer_at_deadline(self, pending: Pending) -> None:
        before = self._queue.expire(pending)
        if before not in WAITING and before is not RequestState.RUNNING:
            return  # it has its outcome
        phase = "queue" if before in WAITING else "late"
        self._metrics.deadline_missed(phase, is_covered=pending.request.is_covered)
        wait = max(self._queue.gauges(self._clock())[-1], pending.entry.most_seconds)
        pending.deliver(DeadlineExceeded("the deadline passed before the answer was there", retry_after=wait))

    def _deliver(self, answers: Answers) -> None:
        self._queue.complete([(pending, _end_of(answer)) for pending, answer in answers])
        for pending, answer in answers:
            if pending.entry.state is RequestState.DONE:
                self._refusal_times = None
            pending.deliver(answer)

    # --- news of the device ---------------------------------------------------------------------------------------

    def _call(self, method: Callable[..., None], *arguments: object) -> None:
        """Call `method` on the event loop, from the device thread; do nothing once the loop is closed."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(method, *arguments)

    def _finish_start(self, info: ServedModel) -> None:
        if self._startup is not None and not self._startup.done():
            self._startup.set_result(info)

    def _fail_start(self, error: BaseException) -> None:
        if self._startup is not None and not self._startup.done():
            self._startup.set_exception(error)

    def _lose_device(self, error: BaseException) -> None:
        if self._reason == "device_lost":
            return
        log.critical("the device is lost: %s", error)
        self._reason = "device_lost"
        self._metrics.ready(False)
        self._give_up("device_lost", self._start_seconds)
        self.versions.close()
        if self._on_fatal is not None:
            self._on_fatal(error)

    def _give_up(self, reason: str, retry_after: float) -> None:
        # An error each: one instance raised in many tasks would gather all their tracebacks.
        self._deliver([(pending, self._unavailable(reason, retry_after)) for pending in self._queue.clear()])

    @staticmethod
    def _unavailable(reason: str, retry_after: float) -> Unavailable:
        return Unavailable(MESSAGES[reason], reason=reason, retry_after=retry_after)

    def _gauges(self) -> Sequence[tuple[str, str, dict[str, str], float]]:
        items, nbytes, _, inflight, work = self._queue.gauges(now := self._clock())
        ages, text = self._queue.ages(now), "How long the oldest waits: calls (live), jobs and clips (background)."
        return (
            ("queue_items", "Requests waiting.", {}, items),
            ("queue_bytes", "Bytes of frames waiting.", {}, nbytes),
            *(("queue_oldest_age_seconds", text, {"priority": p.name.lower()}, age) for p, age in ages.items()),
            ("inflight_requests", "Requests waiting or running.", {}, inflight),
            ("predicted_work_seconds", "Predicted time until all that is in flight is done.", {}, work),
            ("refusing_seconds", REFUSING, {}, self._refusing_seconds()),
        )

    @staticmethod
    def _label(request: PredictRequest) -> str:
        bucket = bucket_of(request)
        return size_class(bucket.height, bucket.width)


def _end_of(answer: PredictResult | ServiceError) -> RequestState:
    """Return the state in which a request with this outcome ends."""
    if isinstance(answer, PredictResult):
        return RequestState.DONE
    return RequestState.EXPIRED if isinstance(answer, DeadlineExceeded) else RequestState.FAILED


def _resolve(future: asyncio.Future[PredictResult], answer: PredictResult | ServiceError) -> None:
    """Give a caller its outcome; do nothing where it has one, or left."""
    if future.done():
        return
    if isinstance(answer, ServiceError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
