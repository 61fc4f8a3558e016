"""Runs claimed items on the engine, each in a task of its own, and carries each to its outcome.

Knows nothing of claiming, or of when to stop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Collection, Sequence

from service.core.errors import DeadlineExceeded, Internal, NotFound, ServiceError
from service.core.interfaces import Engine
from service.core.types import PredictRequest, PredictResult
from service.distributed.broker import serialization
from service.distributed.broker.off_loop import off_the_loop
from service.distributed.worker.claims import Claims
from service.distributed.worker.device_probe import DeviceProbe
from service.distributed.worker.foreign_items import ForeignItems
from service.distributed.worker.items import ClaimedWork, LeasedItem
from service.distributed.worker.leases import Lease, Leases
from service.distributed.worker.outcomes import Outcomes
from service.distributed.worker.price import MeasuredPrice
from service.serving.jobs.fate import RunEnd
from service.serving.jobs.job import Failure
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class ItemRuns:
    """The items that run on one worker. `price` learns from their times."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        claims: Claims,
        foreign: ForeignItems,
        outcomes: Outcomes,
        leases: Leases,
        metrics: Metrics,
    ) -> None:
        self._settings, self._engine, self._claims = settings, engine, claims
        self._foreign, self._outcomes, self._leases, self._metrics = foreign, outcomes, leases, metrics
        self._running: dict[Lease, tuple[LeasedItem, asyncio.Task[None]]] = {}
        self._awaited: dict[Lease, LeasedItem] = {}  #: claimed, with their frames on the way here
        self._ended = asyncio.Event()
        self._withdrawn: set[Lease] = set()
        self._answering: set[Lease] = set()
        self._company: set[Lease] = set()  #: what did not run alone
        self._predicted: set[Lease] = set()  #: what the device is done with
        self._probe = DeviceProbe(settings, engine)
        self.price = MeasuredPrice()
        self.device_seconds = math.inf  #: of a recent batch

    def __len__(self) -> int:
        return len(self._running)

    @property
    def held(self) -> int:
        """Count the items that the device runs, or that are ready for it: not those whose answers are on the way."""
        return len(self._running) - len(self._predicted)

    @property
    def leases(self) -> list[Lease]:
        """List the leases of what runs."""
        return list(self._running)

    @property
    def items(self) -> list[LeasedItem]:
        """List the items that run."""
        return [item for item, _ in self._running.values()]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """List the tasks of what runs."""
        return [task for _, task in self._running.values()]

    def expect(self, items: Sequence[LeasedItem]) -> None:
        """Hear of the withdrawal of items from now on, until `start` or `give_up` has them: frames may take long."""
        self._awaited.update({item.lease: item for item in items})

    def give_up(self, items: Sequence[LeasedItem]) -> None:
        """Expect these items no more: they could not be read."""
        for item in items:
            self._awaited.pop(item.lease, None)
            self._withdrawn.discard(item.lease)

    def start(self, works: Sequence[ClaimedWork]) -> None:
        """Run these items, whose leases are held, beside each other and beside what runs."""
        for work in works:
            self._awaited.pop(work.item.lease, None)
            # owned: by _running until it ends; _run lets no exception out, and the worker's drain ends it
            task = asyncio.create_task(self._run(work))
            self._running[work.item.lease] = (work.item, task)
            task.add_done_callback(lambda _, lease=work.item.lease: self._forget(lease))  # type: ignore[misc]
        if len(self._running) > 1:
            self._company.update(self._running)

    def next_end(self) -> Awaitable[object]:
        """Return what waits until an item ends, or the device is done with one, from this call on."""
        self._ended.clear()
        return self._ended.wait()

    async def all_ended(self) -> None:
        """Wait until nothing runs."""
        while self._running:
            await asyncio.wait(self.tasks)

    def withdraw(self, jobs: Collection[str]) -> None:
        """Cancel in the engine the items of jobs that their callers withdrew from the queue."""
        for lease, (item, task) in list(self._running.items()):
            if item.job in jobs:
                self._withdrawn.add(lease)
                task.cancel()
                self._metrics.cancelled("exec")
        for lease, item in self._awaited.items():
            if item.job in jobs:
                self._withdrawn.add(lease)
                self._metrics.cancelled("queue")

    def lease_is_lost(self, lease: Lease) -> None:
        """Stop the run of an item that another worker may have by now."""
        # Gone while its answer is on the way: that answer ended it, or will be refused and counted there.
        if lease in self._running and lease not in self._answering:
            log.warning("a lease was lost; its run is stopped")
            self._metrics.lease_lost()
            self._running[lease][1].cancel()

    def _forget(self, lease: Lease) -> None:
        self._running.pop(lease, None)
        self._withdrawn.discard(lease)
        self._answering.discard(lease)
        self._company.discard(lease)
        self._predicted.discard(lease)
        self._leases.drop(lease)
        self._ended.set()

    async def _run(self, work: ClaimedWork) -> None:
        item = work.item
        try:
            if work.verdict in ("gone", "done", "orphan") or item.lease in self._withdrawn:
                await self._outcomes.lasting(item, lambda: self._claims.drop(item))
            elif work.verdict == "lost":
                failure = Failure("internal", "the frames expired before they were predicted")
                await self._outcomes.lasting(item, lambda: self._claims.fail(item, failure))
            elif work.suspected:
                await self._predict_suspect(work)
            else:
                await self._predict(work)
        except asyncio.CancelledError:
            if item.lease not in self._withdrawn:
                raise
            await self._outcomes.lasting(item, lambda: self._claims.drop(item))
        except Exception:
            log.exception("job %s, item %d: left to its lease", item.job, item.index)

    async def _predict_suspect(self, work: ClaimedWork) -> None:
        """Predict what ran when a device was lost, once this device has proved sound: else its loss says nothing."""
        try:
            sound = await self._probe.passes()
        except ServiceError as error:
            await self._outcomes.failed(work, error, end=RunEnd.UNTRIED)
        else:
            await self._predict(work, sound=sound)

    async def _predict(self, work: ClaimedWork, *, sound: bool = False) -> None:
        item = work.item
        try:
            if (with_frames := await self._outcomes.with_frames(work)) is None:
                return
            request = await self._read(with_frames)
            result = await self._patiently(request)
            self.device_seconds = result.timings.device or math.inf
            self._predicted.add(item.lease)
            self._ended.set()
            compress = not item.front
            nbytes = math.inf if compress else _answer_bytes(result)
            answer = await off_the_loop(nbytes, serialization.result_bytes, result, compress=compress)
        except serialization.UnreadableEntry as error:
            why = str(error)
            await self._outcomes.lasting(item, lambda: self._foreign.leave(item, why))
        except NotFound as error:  # a version of the weights that others may have
            why = error.message
            await self._outcomes.lasting(item, lambda: self._foreign.leave(item, why))
        except ServiceError as error:
            await self._outcomes.failed(work, error, alone=item.lease not in self._company, sound=sound)
        except Exception:
            log.exception("job %s, item %d failed", item.job, item.index)
            failure = Internal(f"job {item.job} failed")
            await self._outcomes.failed(work, failure, alone=item.lease not in self._company, sound=sound)
        else:
            self.price.observe(request, result)
            self._answering.add(item.lease)
            if await self._outcomes.answer(work, answer):
                await self._outcomes.charge(request.client, result.flops)

    async def _read(self, work: ClaimedWork) -> PredictRequest:
        """Read an item's task and frames, in a thread where that takes time."""
        frames = (work.previous, work.current)
        nbytes = math.inf if any(map(serialization.is_file, frames)) else sum(map(len, frames))
        return await off_the_loop(nbytes, self._request, work)

    async def _patiently(self, request: PredictRequest) -> PredictResult:
        """Predict; where the engine's own queue is full, as soon as something else that runs here has ended."""
        while True:
            try:
                return await self._engine.predict(request)
            except ServiceError as error:
                others = [task for _, task in self._running.values() if task is not asyncio.current_task()]
                if RunEnd.of(error) is not RunEnd.BUSY or not others or not self._engine.readiness().ready:
                    raise
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)

    def _request(self, work: ClaimedWork) -> PredictRequest:
        item = work.item
        options, priority, client, traceparent = serialization.read_task(work.task)
        if item.left is not None and item.left <= 0:
            raise DeadlineExceeded("the deadline passed in the queue")
        return PredictRequest(
            id=item.job,
            previous=serialization.read_frame(work.previous),
            current=serialization.read_frame(work.current),
            options=options,
            # A job has no deadline, but engines give a request without one the default of waiting callers.
            deadline=time.monotonic() + (self._settings.max_run_s if item.left is None else item.left),
            client=client,
            priority=priority,
            traceparent=traceparent,
            waited=item.waited,
            is_trial=serialization.has_note(work.task, serialization.Note.TRIAL),
        )


def _answer_bytes(result: PredictResult) -> int:
    """Count the bytes of an answer's frames and maps."""
    arrays = [array for s in result.steps for array in (s.frame.pixels, s.flow, s.mask, s.confidence)]
    return sum(array.nbytes for array in arrays if array is not None)
