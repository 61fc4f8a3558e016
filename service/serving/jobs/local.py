"""Jobs in this process, for a service without Redis: the same calls, but they end with the process and say so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import replace

from service.core.errors import Conflict, NotFound, ServiceError, Unavailable
from service.core.interfaces import Engine
from service.core.types import PredictRequest, PredictResult, Priority
from service.serving.answer_size import answer_nbytes
from service.serving.fair_turns import FairTurns
from service.serving.jobs.job import PASSING, Failure, JobState, JobView, NewJob
from service.serving.jobs.kept_jobs import RECORD_BYTES, KeptJob, KeptJobs
from service.serving.jobs.webhook import Sender, deliver
from service.serving.prediction import Caller, build_request
from service.settings import Settings
from service.supervision import Supervisor
from service.telemetry.metrics import Background, Metrics

log = logging.getLogger(__name__)

#: Predictions of all jobs handed to the engine at once: enough to fill batches, few enough to leave its queue to calls.
AT_ONCE = 16
#: Runs of a prediction that did not fit the device's memory by itself: another process may have held it once or twice.
MEMORY_TRIES = 3


#: Why a job failed that was accepted and could not be finished.
STOPPED = Failure(
    "unavailable", "the server stopped before the job was finished; submit it again", reason="draining", retry_after=5.0
)
#: Seconds of a grace that are kept for webhooks, at most.
TELLING_S = 2.0


class LocalJobs:
    """`service.serving.jobs.job.Jobs` over an engine of this process; `close()` it before the engine."""

    durable = False
    durability: str | None = None

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._kept = KeptJobs(settings.max_queue_items, settings.max_queue_bytes, settings.job_ttl_s)
        self._turns = FairTurns(AT_ONCE)
        self._supervisor = Supervisor(metrics)
        self._rng = random.Random()
        self._sender = Sender(settings.webhook_secret)
        self._closed = False

    async def submit(self, job: NewJob) -> tuple[JobView, bool]:
        """Accept as `Jobs.submit`. Bounded like the queue: items of open jobs, bytes of all jobs with their results."""
        self._kept.forget(time.monotonic())
        if (there := self._kept.get(job.id)) is not None:
            if (there.client, there.fingerprint) != (job.client, job.fingerprint):
                raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key")
            return await self.get(job.id, job.client), False
        if self._closed:
            raise Unavailable("shutting down", reason="draining", retry_after=5.0)
        view = JobView(job.id, JobState.QUEUED, job.items, 0, time.time())
        # Results are kept in this process too, so they count from the start.
        entry = KeptJob(
            job.client, job.holder or job.client, job.fingerprint, job.webhook, view, job, RECORD_BYTES + _needed(job)
        )
        self._kept.add(entry)
        # owned: by the job, whose state tells how it ended; _run catches all
        entry.task = asyncio.create_task(self._run(entry, job))
        return entry.view, True

    async def get(self, job: str, client: str) -> JobView:
        """Return the view as `Jobs.get`."""
        entry = self._find(job, client)
        if entry.view.state is not JobState.QUEUED:
            return entry.view
        return replace(entry.view, position=self._kept.position(entry))

    async def of_client(self, client: str) -> list[JobView]:
        """List as `Jobs.of_client`."""
        self._kept.forget(time.monotonic())
        return [entry.view for entry in self._kept.of_client(client)]

    async def changed(self, seen: JobView, client: str, seconds: float) -> JobView:
        """Wait as `Jobs.changed`."""
        entry = self._find(seen.id, client)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while entry.view.same_as(seen):
                    await entry.moved.wait()
        return await self.get(seen.id, client)

    async def result(self, job: str, client: str, item: int) -> PredictResult:
        """Return the answer as `Jobs.result`."""
        entry = self._find(job, client)
        if not 0 <= item < entry.view.items:
            raise NotFound(f"the job has items 0 to {entry.view.items - 1}")
        if entry.view.failure is not None:
            raise entry.view.failure.error()
        if item not in entry.results:
            raise Conflict(f"the job is {entry.view.state}; there is no such result")
        entry.taken.add(item)
        self._kept.fetched(entry)
        return entry.results[item]

    async def cancel(self, job: str, client: str) -> JobView:
        """Withdraw as `Jobs.cancel`; a job that is final is dropped with its results."""
        entry = self._find(job, client)
        if entry.view.state.final:
            self._kept.drop(entry)
        else:
            self._end(entry, JobState.CANCELLED)
            if entry.task is not None:
                entry.task.cancel()
        return entry.view

    async def drain(self, seconds: float) -> bool:
        """Take no more; finish what was accepted. What is left near the end of `seconds` fails and says why."""
        self._closed = True
        clock = asyncio.get_running_loop().time
        deadline, telling = clock() + seconds, min(TELLING_S, seconds / 4)
        running = [entry.task for entry in self._kept.open() if entry.task is not None]
        if running:
            log.info("%d jobs are finished before the end", len(running))
            await asyncio.wait(running, timeout=max(0.0, seconds - telling))
        count = await self._give_up()
        if self._supervisor.pending:
            await asyncio.wait(self._supervisor.pending, timeout=max(0.0, min(telling, deadline - clock())))
        return not count

    async def close(self) -> None:
        """Fail what is not finished: nothing here outlives the process."""
        self._closed = True
        await self._give_up()
        webhooks = list(self._supervisor.pending)
        for webhook in webhooks:
            webhook.cancel()
        if webhooks:
            log.warning("%d webhooks were not delivered before the end", len(webhooks))
            await asyncio.gather(*webhooks, return_exceptions=True)
        self._sender.close()

    async def _give_up(self) -> int:
        """Fail every open job, and tell; return how many there were."""
        entries = self._kept.open()
        for entry in entries:
            self._end(entry, JobState.FAILED, STOPPED)
            if entry.task is not None:
                entry.task.cancel()
        if entries:
            log.warning("%d jobs were not finished when the server stopped; they have failed", len(entries))
            await asyncio.gather(*(entry.task for entry in entries if entry.task is not None), return_exceptions=True)
        return len(entries)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _find(self, job: str, client: str) -> KeptJob:
        self._kept.forget(time.monotonic())
        entry = self._kept.get(job)
        if entry is None or entry.client != client:
            raise NotFound(f"there is no job {job[:64]!r} any more; jobs of this server end with its process")
        return entry

    async def _run(self, entry: KeptJob, job: NewJob) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for item in range(job.items):
                    group.create_task(self._item(entry, job, item))  # awaited: by the group
        except* ServiceError as failed:
            self._end(entry, JobState.FAILED, Failure.of(_first(failed)))
        except* Exception as failed:
            log.exception("job %s failed", job.id, exc_info=failed)
            self._end(entry, JobState.FAILED, Failure("internal", f"job {job.id} failed"))
        else:
            self._end(entry, JobState.DONE)

    async def _item(self, entry: KeptJob, job: NewJob, item: int) -> None:
        # A job has time; without this the engine's default deadline for callers would count.
        deadline = time.monotonic() + self._settings.job_ttl_s
        caller = Caller(job.id, job.client, deadline, job.traceparent, priority=Priority.BACKGROUND)
        request = build_request(caller, job.frames[item], job.frames[item + 1], job.options)
        entry.results[item] = await self._patiently(entry, request)
        # The last one is told together with the end: whoever waits for news should not be woken twice.
        if entry.view.done + 1 < job.items:
            self._move(entry, replace(entry.view, done=entry.view.done + 1))

    async def _patiently(self, entry: KeptJob, request: PredictRequest) -> PredictResult:
        """Predict at the holder's turn. An accepted job waits for room rather than failing, but not for memory."""
        tries = 0
        while True:
            try:
                async with self._turns.turn(entry.holder):
                    if entry.view.state is JobState.QUEUED:
                        self._move(entry, replace(entry.view, state=JobState.RUNNING))
                    return await self._engine.predict(request)
            except ServiceError as error:
                if error.code not in PASSING or self._engine.readiness().reason == "device_lost":
                    raise
                tries += error.reason == "out_of_memory"
                if tries >= MEMORY_TRIES:
                    raise
                wait = min(5.0, error.retry_after or 1.0) * self._rng.uniform(0.5, 1.5)
            # The place is given back first: whoever sleeps needs none.
            await asyncio.sleep(wait)

    def _move(self, entry: KeptJob, view: JobView) -> None:
        if not entry.view.state.final:
            before, entry.view = entry.view, view
            self._kept.moved(entry, before)
            entry.moved.set()
            entry.moved = asyncio.Event()

    def _end(self, entry: KeptJob, state: JobState, failure: Failure | None = None) -> None:
        if entry.view.state.final:
            return
        count = entry.view.items if state is JobState.DONE else entry.view.done
        # By a clock that nobody sets: a job does not end before it was accepted.
        finished = entry.view.created + time.monotonic() - entry.accepted
        self._move(entry, replace(entry.view, state=state, done=count, finished=finished, failure=failure))
        entry.job = None
        if failure is not None:
            entry.results.clear()
        self._kept.ended(entry, time.monotonic())
        if entry.webhook is not None and state is not JobState.CANCELLED:
            delivery = deliver(self._sender, entry.webhook, entry.view, self._metrics, self._rng)
            self._supervisor.once(Background.WEBHOOK, delivery)


def _needed(job: NewJob) -> int:
    """Count the bytes of a job's frames and of what will be predicted from them."""
    frame = job.frames[0]
    return len(job.frames) * frame.pixels.nbytes + job.items * answer_nbytes(frame.height * frame.width, job.options)


def _first(group: BaseExceptionGroup[ServiceError]) -> ServiceError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
