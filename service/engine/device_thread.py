"""The device thread: chooses routes, takes a batch, runs it, and reports. The only thread that touches the device."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded, ServiceError
from service.core.interfaces import ServedModel
from service.core.timings import Timings
from service.core.types import Method, PredictResult, Route, RoutePolicy, Step
from service.engine.batch_counts import Answers, BatchCounts, count_isolated
from service.engine.device import ChosenRoute, Device, DeviceWork, RunOutput, batch_timings
from service.engine.fault_isolation import run_isolated
from service.engine.request_queue import Pending, RequestQueue, ScheduledBatch
from service.engine.scheduling.cold_runs import ColdRuns
from service.engine.scheduling.cost_model import CostModel, MeasuredRun
from service.engine.scheduling.mixture_costs import MixtureCosts
from service.engine.scheduling.pricing import DeviceCosts
from service.engine.scheduling.request_state import RequestState
from service.engine.self_test import SMALLEST, DeviceHealth
from service.engine.versions.loaded_devices import LoadedDevices
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Decisions kept for /debug/batcher.
DECISIONS = 32
#: First runs of a size and number of rows that are slower than all later ones: a GPU's second one records its calls.
COLD_RUNS_CPU, COLD_RUNS_GPU = 1, 2
#: The device's memory is asked for at most this often, seconds.
MEMORY_EVERY = 1.0
#: Batches that are counted together, where no scrape comes before: one after the other each costs less.
COUNTED_TOGETHER = 8
#: Seconds the event loop gets to hand answers on before the counting; none where requests wait.
COUNT_AFTER = 0.001


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch, for people: what was taken, why not more, and how long it was thought to take and took (seconds)."""

    at: float
    bucket: Bucket
    size: int
    limit: str
    waiting: int
    predicted: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Reports:
    """Callbacks of the device thread, called on it. Each must return at once."""

    on_start: Callable[[ServedModel], None]
    on_start_failed: Callable[[BaseException], None]
    on_answers: Callable[[Answers], None]
    on_loss: Callable[[BaseException], None]  #: the device is lost, or the thread cannot go on


class BatchTimes(NamedTuple):
    """When a batch began to run, on the engine's clock, and the seconds of its stages."""

    start: float
    stages: Timings


class DeviceThread:
    """One device and its thread."""

    def __init__(
        self,
        build: Callable[[], Device],
        warmup_sizes: Sequence[tuple[int, int]],
        queue: RequestQueue,
        metrics: Metrics,
        reports: Reports,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build, self._sizes = build, warmup_sizes
        self._queue, self._metrics, self._reports, self._clock = queue, metrics, reports, clock
        # owned: _main reports how it ends, whatever happens, and the process ends with it
        self._thread = threading.Thread(target=self._main, name="device", daemon=True)
        self._devices: LoadedDevices
        self._costs: DeviceCosts
        self._cold: ColdRuns
        self._health: DeviceHealth
        self._memory_at = float("-inf")
        self.decisions: deque[BatchRecord] = deque(maxlen=DECISIONS)
        #: (since, predicted seconds) while the device works; `since` moves on with every step and every retry.
        self.busy: tuple[float, float] | None = None
        self._routing_seconds = 0.0  #: spent on choosing routes ahead, since a batch was counted last

    def start(self) -> None:
        """Build the device, warm it up, and serve until the queue is closed."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until the thread ends, at most `timeout` seconds; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            device = self._build()
            network = CostModel(device.weights_of_blocks, device.weight_of_routing)
            self._costs = DeviceCosts(network, MixtureCosts.of(device.info.methods))
            table = list(device.warm_up(self._sizes))
            self._costs.fit(table)
            self._cold = ColdRuns(COLD_RUNS_CPU if device.info.device == "cpu" else COLD_RUNS_GPU)
            self._cold.mark_warm(table)
            self._devices = LoadedDevices(device, self._costs, self._cold)
            self._health = DeviceHealth(self._devices, self._sizes[0] if self._sizes else SMALLEST)
            self._queue.device_costs = self._costs
            self._queue.knows_motion = self._devices.knows_motion
            self._queue.scheduler.device_rows = device.rows
            self._queue.refresh_costs()
        except BaseException as error:
            self._reports.on_start_failed(error)
            return
        self._reports.on_start(device.info)
        del device  # it may be replaced, and must then be let go of
        try:
            self._serve()
        except BaseException as error:
            # Whatever gets here would get here again: DeviceLost, or a defect of ours that must not go unseen.
            log.exception("the device thread stops")
            self._reports.on_loss(error)

    def _serve(self) -> None:
        try:
            while self._queue.wait():
                self._run_next()
                self._take_step()
        finally:
            self._metrics.deferred.settle()

    def _run_next(self) -> None:
        while requests := self._queue.next_to_route(self._clock()):
            self._route(requests)
        schedule = self._queue.next_batch(self._clock())
        for pending in schedule.expired:
            self._metrics.deadline_missed("queue", is_covered=pending.request.is_covered)
        if schedule.expired:
            late = "the deadline passed, or could no longer be met, while it waited"
            wait = max(schedule.work, 0.001)
            self._reports.on_answers([(p, DeadlineExceeded(late, retry_after=wait)) for p in schedule.expired])
        if schedule.batch:
            self._run(schedule)

    # --- versions -------------------------------------------------------------------------------------------------

    def install(
        self, number: int, like: int, build: Callable[[], Device], report: Callable[[ServedModel | Exception], None]
    ) -> None:
        """Build another device and warm it up between batches, as `LoadedDevices.install`. Callable from any thread."""
        self._queue.post(self._devices.install(number, like, build, self._sizes, report))

    def remove(self, number: int, report: Callable[[], None]) -> None:
        """Free a device that nothing is left to do for. Callable from any thread."""
        self._queue.post(self._devices.remove(number, report))

    def _take_step(self) -> None:
        if self._queue.has_chores:
            self.busy = (self._clock(), 0.0)  # a warm-up may hang, too
            try:
                self._queue.take_step()
            finally:
                self.busy = None

    # --- routes ---------------------------------------------------------------------------------------------------

    def _route(self, requests: list[Pending]) -> None:
        start, device = self._clock(), self._devices.of(requests[0].entry.bucket)
        self.busy = (start, 0.0)

        def choose(part: Sequence[Pending]) -> list[ChosenRoute | ServiceError]:
            return list(device.routes([pending.request for pending in part]))

        choices = run_isolated(choose, requests, lambda items: self._shrink(requests[0].entry.bucket, items))
        self.busy, seconds = None, self._clock() - start
        self._routing_seconds += seconds
        failures: Answers = []
        prices = []
        for pending, choice in zip(requests, choices, strict=True):
            pending.route_seconds = seconds
            if isinstance(choice, ServiceError):
                failures.append((pending, choice))
                continue
            pending.was_empty = choice.was_empty
            self._record_route(pending, choice.route)
            entry, shifted = pending.entry, pending.entry.route_options[-1].shifted
            route_options = self._costs.routed_options(
                entry.bucket, pending.request.options, choice.route, choice.probabilities, shifted=shifted
            )
            prices.append((pending, route_options))
        self._queue.price(prices)
        if failures:
            self._queue.fail([pending for pending, _ in failures])
            count_isolated(self._metrics, len(requests), len(failures))
            self._reports.on_answers(failures)
            self._check_health(failures)

    # --- batches --------------------------------------------------------------------------------------------------

    def _run(self, schedule: ScheduledBatch) -> None:
        start = self._clock()
        runs: list[tuple[RunOutput, float]] = []
        answers = self._run_batch(schedule, runs)
        bucket, seconds = schedule.batch[0].entry.bucket, self._clock() - start
        estimate = self._learn(schedule, bucket, runs)
        self._queue.refresh_costs()
        decision = schedule.decision
        size, waiting, predicted = len(schedule.batch), schedule.waiting, decision.predicted_seconds
        self.decisions.append(BatchRecord(start, bucket, size, decision.limit, waiting, predicted, seconds))
        empty, flops = sum([output.empty_routes for output, _ in runs]), self._devices.of(bucket).flops(bucket)
        counts = BatchCounts.of(answers, decision.limit, flops, seconds, estimate, empty, self._routing_seconds)
        self._routing_seconds = 0.0
        # After the batch is on record, so that whoever has an answer can look it up, and before it is counted: the
        # event loop needs the interpreter to hand the answers on.
        self._metrics.deferred.add(partial(counts.count, self._metrics))
        self._reports.on_answers(answers)
        if len(self._metrics.deferred) >= COUNTED_TOGETHER:
            self._queue.pause(COUNT_AFTER)
            self._metrics.deferred.settle()
        self._measure_memory()
        self._check_health(answers)

    def _check_health(self, answers: Answers) -> None:
        self.busy = (self._clock(), 0.0)  # a device that is put to the test may hang, too
        try:
            self._health.note([answer for _, answer in answers])
        finally:
            self.busy = None

    def _learn(self, schedule: ScheduledBatch, bucket: Bucket, runs: Sequence[tuple[RunOutput, float]]) -> float | None:
        """Teach the cost model what the batch took; return the seconds predicted for it, None if it proves nothing.

        Without retries it ran once, and what that took tells how good the prediction was; a first run does not.
        """
        if len(runs) != 1:
            return None
        (output, seconds) = runs[0]
        timed_bucket = bucket._replace(method=Method.FLOW) if output.only_stood_in else bucket
        if self._cold.is_cold(timed_bucket, len(output.outcomes)):
            return None
        trial = any(pending.entry.trial is not None for pending in schedule.batch)
        ratio = self._costs.observe(MeasuredRun(bucket, output.load, seconds), output.stand_ins, trial=trial)
        if trial:
            self._queue.record_trial(schedule.batch, ratio)
        return seconds / ratio

    def _run_batch(self, schedule: ScheduledBatch, runs: list[tuple[RunOutput, float]]) -> Answers:
        start, bucket = self._clock(), schedule.batch[0].entry.bucket
        device, works = self._devices.of(bucket), {_work(pending): pending for pending in schedule.batch}

        def keep(work: DeviceWork) -> bool:
            now = self._clock()
            self.busy = (now, schedule.decision.predicted_seconds)
            entry = works[work].entry
            return entry.state is RequestState.RUNNING and now < entry.deadline

        def run(some: Sequence[DeviceWork]) -> Sequence[tuple[Step, ...] | ServiceError]:
            run_start = self._clock()
            self.busy = (run_start, schedule.decision.predicted_seconds)
            output = device.run(some, keep)
            runs.append((output, self._clock() - run_start))
            return output.outcomes

        # Callers may have left since it was taken.
        active = [work for work in works if keep(work)]
        try:
            outcomes = dict(zip(active, run_isolated(run, active, lambda n: self._shrink(bucket, n)), strict=True))
        finally:
            self.busy = None
        times = BatchTimes(start, batch_timings(bucket, [output for output, _ in runs], self._clock() - start))
        answers: Answers = [
            (pending, self._result(pending, outcomes.get(work, ()), len(works), times))
            for work, pending in works.items()
        ]
        for pending, answer in answers:
            pending.tell_ahead(answer)
        self._queue.finish_batch(schedule.batch, self._clock())
        return answers

    def _result(
        self, pending: Pending, outcome: tuple[Step, ...] | ServiceError, size: int, times: BatchTimes
    ) -> PredictResult | ServiceError:
        if isinstance(outcome, ServiceError):
            return outcome
        request, entry = pending.request, pending.entry
        if len(outcome) < request.options.frames:
            return DeadlineExceeded("the deadline passed between two steps")
        was_open = entry.selection is not None and entry.selection.route is None
        if was_open and outcome[0].method is Method.DMVFN and not outcome[0].is_cut:
            self._record_route(pending, outcome[0].route)
        choice = request.options.route
        return PredictResult(
            id=request.id,
            steps=outcome,
            model_version=self._devices.of(entry.bucket).info.version,
            timings=dataclasses.replace(
                times.stages,
                queue=max(0.0, times.start - entry.enqueued_at - pending.route_seconds),
                route=pending.route_seconds + times.stages.route,
            ),
            batch_size=size,
            seed=choice.seed if choice.policy is RoutePolicy.SAMPLE else None,
            shortened=entry.selection is not None and entry.selection is not entry.route_options[0],
        )

    def _record_route(self, pending: Pending, route: Route) -> None:
        if pending.request.options.route.policy in (RoutePolicy.AUTO, RoutePolicy.SAMPLE):
            self._costs.network.record_route(route)

    # --- reports --------------------------------------------------------------------------------------------------

    def _measure_memory(self) -> None:
        if self._clock() - self._memory_at >= MEMORY_EVERY:
            self._memory_at = self._clock()
            for kind, value in zip(("used", "total"), self._devices.first.memory() or (), strict=False):
                self._metrics.device_memory(kind, value)

    def _shrink(self, bucket: Bucket, items: int) -> None:
        self._metrics.out_of_memory()
        self._devices.of(bucket).free()
        self._queue.shrink(bucket, items // 2)


def _work(pending: Pending) -> DeviceWork:
    selection = pending.entry.selection
    if selection is not None and (selection.live or selection.shifted):
        return DeviceWork(pending.request, live=selection.live, shifted=selection.shifted)
    if selection is None or selection.route is None:
        return DeviceWork(pending.request)
    is_shortened = selection is not pending.entry.route_options[0]
    return DeviceWork(pending.request, selection.route, sum(selection.route) if is_shortened else None)
