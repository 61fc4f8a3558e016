"""Jobs in this process, for a service without Redis: the same calls, but they end with the process and say so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass, field, replace

from service.core.errors import Conflict, NotFound, QueueFull, ServiceError, TooLarge, Unavailable
from service.core.fate import DEVICE_LOST, OUT_OF_MEMORY
from service.core.job import PASSING, Failure, JobState, JobView, NewJob, webhook_wait
from service.core.ports import Engine
from service.core.types import PredictRequest, PredictResult, Priority
from service.engine.webhook import Sender
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)

#: Predictions of all jobs handed to the engine at once: enough to fill batches, few enough to leave its queue to calls.
AT_ONCE = 16
#: Runs of a prediction that did not fit the device's memory by itself: another process may have held it once or twice.
MEMORY_TRIES = 3


@dataclass
class _Kept:
    client: str
    fingerprint: str
    webhook: str | None
    view: JobView
    job: NewJob | None  #: with its frames, which are let go of once it has ended
    nbytes: int  #: of frames: those given and those to come, and once it has ended its results
    results: dict[int, PredictResult] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  #: items whose result was asked for
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def expendable(self) -> bool:
        """Whether nobody is likely to miss it: all of it was fetched, or it was withdrawn."""
        return self.view.state is JobState.CANCELLED or len(self.taken) == self.view.items


class LocalJobs:
    """`service.core.job.Jobs` over an engine of this process; `close()` it before the engine."""

    durable = False

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._kept: dict[str, _Kept] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._chores: set[asyncio.Task[None]] = set()
        self._rng = random.Random()
        self._sender = Sender(settings.webhook_secret)
        self._closed = False

    async def submit(self, job: NewJob) -> tuple[JobView, bool]:
        """As `Jobs.submit`. Bounded like the queue: items of open jobs, bytes of all jobs with their results."""
        self._forget()
        if (there := self._kept.get(job.id)) is not None:
            if (there.client, there.fingerprint) != (job.client, job.fingerprint):
                raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key")
            return await self.get(job.id, job.client), False
        nbytes = self._admit(job)
        view = JobView(job.id, JobState.QUEUED, job.items, 0, time.time())
        kept = _Kept(job.client, job.fingerprint, job.webhook, view, job, nbytes)
        self._kept[job.id] = kept
        kept.task = asyncio.create_task(self._run(kept, job))
        return kept.view, True

    async def get(self, job: str, client: str) -> JobView:
        """As `Jobs.get`."""
        kept = self._find(job, client)
        if kept.view.state is not JobState.QUEUED:
            return kept.view
        before = [k for k in self._kept.values() if k.view.state is JobState.QUEUED]
        return replace(kept.view, position=sum(k.view.items for k in before[: before.index(kept)]))

    async def changed(self, seen: JobView, client: str, seconds: float) -> JobView:
        """As `Jobs.changed`."""
        kept = self._find(seen.id, client)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while kept.view.same_as(seen):
                    await kept.moved.wait()
        return await self.get(seen.id, client)

    async def result(self, job: str, client: str, item: int) -> PredictResult:
        """As `Jobs.result`."""
        kept = self._find(job, client)
        if not 0 <= item < kept.view.items:
            raise NotFound(f"the job has items 0 to {kept.view.items - 1}")
        if kept.view.failure is not None:
            raise kept.view.failure.error()
        if item not in kept.results:
            raise Conflict(f"the job is {kept.view.state}; there is no such result")
        kept.taken.add(item)
        return kept.results[item]

    async def cancel(self, job: str, client: str) -> JobView:
        """As `Jobs.cancel`."""
        kept = self._find(job, client)
        if kept.view.state.final:
            del self._kept[job]
        else:
            self._end(kept, JobState.CANCELLED)
            if kept.task is not None:
                kept.task.cancel()
        return kept.view

    async def close(self) -> None:
        """Withdraws every job: nothing here outlives the process."""
        self._closed = True
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None] + list(self._chores)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sender.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _find(self, job: str, client: str) -> _Kept:
        self._forget()
        kept = self._kept.get(job)
        if kept is None or kept.client != client:
            raise NotFound(f"there is no job {job[:64]!r} any more; jobs of this server end with its process")
        return kept

    def _admit(self, job: NewJob) -> int:
        """The bytes it will hold, for which there is room now."""
        if self._closed:
            raise Unavailable("shutting down", reason="draining", retry_after=5.0)
        most = self._settings.max_queue_items
        if job.items > most:
            raise TooLarge(f"at most {most} predictions fit the queue", field="frames")
        items = sum(k.view.items - k.view.done for k in self._kept.values() if not k.view.state.final)
        if items + job.items > most:
            raise QueueFull("the queue holds as many items as it may", retry_after=5.0)
        # Results are kept in this process too, so they count from the start.
        nbytes = _needed(job)
        self._make_room(nbytes)
        return nbytes

    def _make_room(self, nbytes: int) -> None:
        most = self._settings.max_queue_bytes
        if nbytes > most:
            raise TooLarge(f"frames given and predicted would take {nbytes} bytes; at most {most} fit", field="frames")
        while sum(kept.nbytes for kept in self._kept.values()) + nbytes > most:
            oldest = next((id for id, kept in self._kept.items() if kept.expendable), None)
            if oldest is None:
                raise QueueFull(
                    "jobs and their results hold as many bytes as they may; results that were fetched make room",
                    retry_after=30.0,
                )
            del self._kept[oldest]

    def _forget(self) -> None:
        oldest = time.time() - self._settings.job_ttl_s
        gone = [k for k, kept in self._kept.items() if kept.view.finished is not None and kept.view.finished < oldest]
        for job in gone:
            del self._kept[job]

    async def _run(self, kept: _Kept, job: NewJob) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for item in range(job.items):
                    group.create_task(self._item(kept, job, item))
        except* ServiceError as failed:
            self._end(kept, JobState.FAILED, Failure.of(_first(failed)))
        except* Exception as failed:
            log.exception("job %s failed", job.id, exc_info=failed)
            self._end(kept, JobState.FAILED, Failure("internal", f"job {job.id} failed"))
        else:
            self._end(kept, JobState.DONE)

    async def _item(self, kept: _Kept, job: NewJob, item: int) -> None:
        memory_tries = 0
        while item not in kept.results:
            try:
                async with self._turn:
                    await self._try(kept, job, item)
            except ServiceError as error:
                memory_tries += error.reason == OUT_OF_MEMORY
                lost = self._engine.readiness().reason == DEVICE_LOST
                if error.code not in PASSING or lost or memory_tries >= MEMORY_TRIES:
                    raise
                # An accepted job waits for room rather than failing for want of it; others have its turn meanwhile.
                await asyncio.sleep(min(5.0, error.retry_after or 1.0) * self._rng.uniform(0.5, 1.5))
        # The last one is told together with the end: whoever waits for news should not be woken twice.
        if kept.view.done + 1 < job.items:
            self._move(kept, replace(kept.view, done=kept.view.done + 1))

    async def _try(self, kept: _Kept, job: NewJob, item: int) -> None:
        if kept.view.state is JobState.QUEUED:
            self._move(kept, replace(kept.view, state=JobState.RUNNING))
        request = PredictRequest(
            id=job.id,
            previous=job.frames[item],
            current=job.frames[item + 1],
            options=job.options,
            client=job.client,
            priority=Priority.BATCH,
            traceparent=job.traceparent,
            # A job has time; without this the engine's default deadline for callers would count.
            deadline=time.monotonic() + self._settings.job_ttl_s,
        )
        kept.results[item] = await self._engine.predict(request)

    def _move(self, kept: _Kept, view: JobView) -> None:
        if not kept.view.state.final:
            kept.view = view
            kept.moved.set()
            kept.moved = asyncio.Event()

    def _end(self, kept: _Kept, state: JobState, failure: Failure | None = None) -> None:
        if kept.view.state.final:
            return
        done = kept.view.items if state is JobState.DONE else kept.view.done
        self._move(kept, replace(kept.view, state=state, done=done, finished=time.time(), failure=failure))
        kept.job = None
        if failure is not None:
            kept.results.clear()
        kept.nbytes = sum(map(_held, kept.results.values()))
        if kept.webhook is not None and state is not JobState.CANCELLED:
            chore = asyncio.create_task(self._tell(kept.webhook, kept.view))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)

    async def _tell(self, url: str, view: JobView) -> None:
        tries = 0
        while not await self._sender.send(url, view):
            tries += 1
            wait = webhook_wait(tries, self._rng.random())
            if wait is None:
                self._metrics.webhook("failed")
                return
            await asyncio.sleep(wait)
        self._metrics.webhook("delivered")


def _needed(job: NewJob) -> int:
    """Bytes of its frames and of what will be predicted from them."""
    frame, options = job.frames[0].pixels.nbytes, job.options
    # Flow and mask: five float32 where a frame has three bytes.
    predicted = frame + (frame // 3 * 20 if options.maps else 0)
    return len(job.frames) * frame + job.items * options.steps * predicted


def _held(result: PredictResult) -> int:
    arrays = (array for step in result.steps for array in (step.frame.pixels, step.flow, step.mask))
    return sum(array.nbytes for array in arrays if array is not None)


def _first(group: BaseExceptionGroup[ServiceError]) -> ServiceError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
