"""Clips being made while nobody waits: in this process only, few, each with its progress, its file and an end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

from service.core.errors import Conflict, Internal, NotFound, QueueFull, ServiceError, Unavailable
from service.serving.accepted_work import AcceptedWork
from service.serving.jobs.clip_jobs import ClipView, NewClip
from service.serving.jobs.job import Failure, JobState
from service.serving.jobs.webhook import Sender, deliver
from service.serving.video.clip_disk import ClipFile, failed_for_room
from service.serving.video.clip_places import PlaceTicket
from service.serving.video.clip_resources import ClipResources
from service.serving.video.conversion import Conversion
from service.settings import Settings
from service.supervision import Supervisor
from service.telemetry.metrics import Background, Metrics

log = logging.getLogger("service.rest")

#: Clips kept, finished ones included. Fetched and failed ones make room; for another caller's, also unfetched ones.
MOST = 16
#: Seconds a finished clip is kept at most, whatever other jobs are.
LONGEST = 3600.0
#: Seconds between two looks at a clip's progress, of whoever waits for news.
LOOK_S = 0.2


class VideoJob:
    """One clip, its body and its result."""

    def __init__(self, clip: NewClip, conversion: Conversion, file: ClipFile, ticket: PlaceTicket) -> None:
        self.clip, self.conversion = clip, conversion
        self.file, self.ticket = file, ticket
        self.state = JobState.RUNNING if ticket.turn.is_set() else JobState.QUEUED
        self.created, self.accepted = time.time(), time.monotonic()
        self._sent = 0  #: bytes from the start that somebody has without a gap
        self.failure: ServiceError | None = None
        self.finished: float | None = None  #: seconds since the epoch
        self.ended: float | None = None  #: on the monotonic clock
        self.moved = asyncio.Event()  #: set and replaced whenever the state changes
        self.task: asyncio.Task[None] | None = None

    @property
    def caller(self) -> str:
        """Return the caller whose share of disk and places the clip takes."""
        return self.clip.holder

    @property
    def taken(self) -> bool:
        """Tell whether somebody has all of its result, from one answer or put together from several."""
        return self.state is JobState.DONE and self._sent >= self.file.nbytes

    def sent(self, start: int, stop: int) -> None:
        """Note that bytes `start` to `stop` reached their reader; a player's look at both ends is no fetching."""
        if start <= self._sent:
            self._sent = max(self._sent, stop)

    @property
    def expendable(self) -> bool:
        """Tell whether nobody is likely to miss it: it was fetched, or it failed."""
        return self.taken or self.failure is not None

    def move(self, state: JobState) -> None:
        """Set the clip's state, and wake those who wait for a change."""
        self.state = state
        self.moved.set()
        self.moved = asyncio.Event()

    def view(self) -> ClipView:
        """Return the clip's state for its caller."""
        failure = None if self.failure is None else Failure.of(self.failure)
        return ClipView(
            id=self.clip.id,
            state=self.state,
            items=self.clip.frames,
            done=self.conversion.progress(),
            created=self.created,
            media_type=self.clip.order.media_type,
            file_name=self.clip.file_name,
            finished=self.finished,
            nbytes=self.file.nbytes,
            notes=self.conversion.notes,
            failure=failure,
        )


class VideoJobs:
    """All of them, as `service.serving.jobs.clip_jobs.ClipJobs`."""

    durable = False
    durability: str | None = None

    def __init__(self, settings: Settings, resources: ClipResources, work: AcceptedWork, metrics: Metrics) -> None:
        self._keep = min(settings.job_ttl_s, LONGEST)
        self._resources, self._work, self._metrics = resources, work, metrics
        self._places, self._disk = resources.places, resources.disk
        self._jobs: dict[str, VideoJob] = {}  #: oldest first
        self._supervisor = Supervisor(metrics)
        self._sender = Sender(settings.webhook_secret)
        self._rng = random.Random()

    async def submit(self, clip: NewClip, body: ClipFile) -> tuple[ClipView, bool]:
        """Accept as `ClipJobs.submit`: made when it is its turn."""
        self._forget()
        if (earlier := self._jobs.get(clip.id)) is not None:
            if (earlier.clip.client, earlier.clip.fingerprint) != (clip.client, clip.fingerprint):
                raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key")
            body.drop()
            return earlier.view(), False
        self._places.check_line(clip.holder)
        if len(self._jobs) >= MOST:
            self._make_room(clip.holder)
        conversion = self._resources.conversion(clip.order, clip.sharer, body, patient=True)
        job = VideoJob(clip, conversion, self._disk.open(clip.holder), self._places.enter(clip.holder))
        self._jobs[clip.id] = job
        # owned: by the job, whose state tells how it ended; _make catches all
        job.task = asyncio.create_task(self._make(job))
        return job.view(), True

    def _make_room(self, caller: str) -> None:
        """Drop one: the oldest expendable, else the oldest finished of whoever keeps more than this caller would."""
        victim = next((entry for entry in self._jobs.values() if entry.expendable), None)
        counts = Counter(entry.caller for entry in self._jobs.values())
        for holder, count in counts.most_common():
            if victim is not None or count <= counts[caller] + 1:
                break
            candidates = (entry for entry in self._jobs.values() if entry.caller == holder and entry.ended is not None)
            victim = next(candidates, None)
        if victim is None:
            raise QueueFull("as many clips are kept as may be; take results and delete them", retry_after=30.0)
        self._drop(victim)

    async def _make(self, job: VideoJob) -> None:
        try:
            async with aclosing(job.conversion.pieces()) as pieces:
                await job.ticket.turn.wait()
                if self._work.stopping.is_set():
                    raise Unavailable("the service is shutting down", reason="draining")
                job.move(JobState.RUNNING)
                with self._work.accepted():
                    async for piece in pieces:
                        await self._write(job.file, piece)
            self._end(job, JobState.DONE)
            job.file.expendable = lambda: job.taken
            job.file.give_up = lambda: self._drop(job)
        except asyncio.CancelledError:
            self._end(job, JobState.CANCELLED)
            raise
        except ServiceError as error:
            job.failure = error
            self._end(job, JobState.FAILED)
        except Exception:
            log.exception("a video job failed", extra={"job": job.clip.id})
            job.failure = Internal("internal error; the log has the cause under this job's id")
            self._end(job, JobState.FAILED)
        finally:
            if job.state is not JobState.DONE:
                job.file.drop()
            await self._let_go(job)

    def _end(self, job: VideoJob, state: JobState) -> None:
        job.ended = time.monotonic()
        job.finished = job.created + job.ended - job.accepted  # whatever the wall clock was set to meanwhile
        job.move(state)
        self._metrics.clips.ended(state.value)
        if job.clip.webhook is not None and state is not JobState.CANCELLED:
            delivery = deliver(self._sender, job.clip.webhook, job.view().as_job(), self._metrics, self._rng)
            self._supervisor.once(Background.WEBHOOK, delivery)

    async def _let_go(self, job: VideoJob) -> None:
        """Free what making it takes; again does nothing."""
        self._places.leave(job.ticket)
        await job.conversion.close()

    async def _write(self, file: ClipFile, piece: bytes) -> None:
        try:
            await file.write(piece)
        except QueueFull as error:
            raise failed_for_room(error) from error

    async def get(self, clip: str, client: str) -> ClipView:
        """Return the view as `ClipJobs.get`."""
        return self._find(clip, client).view()

    def _find(self, clip: str, client: str) -> VideoJob:
        self._forget()
        job = self._jobs.get(clip)
        if job is None or job.clip.client != client:
            raise NotFound("there is no such clip", field="job")
        return job

    async def changed(self, seen: ClipView, client: str, seconds: float) -> ClipView:
        """Wait as `ClipJobs.changed`."""
        deadline = time.monotonic() + seconds
        while True:
            job = self._find(seen.id, client)
            seconds_left = deadline - time.monotonic()
            if not job.view().same_as(seen) or seconds_left <= 0:
                return job.view()
            news = job.moved
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(seconds_left, LOOK_S)):
                    await news.wait()

    async def of_client(self, client: str) -> list[ClipView]:
        """List as `ClipJobs.of_client`."""
        self._forget()
        return [job.view() for job in reversed(self._jobs.values()) if job.clip.client == client]

    async def pieces(self, view: ClipView, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `ClipJobs.pieces`."""
        job = self._jobs.get(view.id)
        if job is None:
            raise NotFound("the clip was deleted before it was read", field="job")
        async with aclosing(job.file.pieces(start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def sent(self, view: ClipView, start: int, stop: int) -> None:
        """Note as `ClipJobs.sent`; a clip that was fetched whole may make room for others."""
        if (job := self._jobs.get(view.id)) is not None:
            job.sent(start, stop)

    async def cancel(self, clip: str, client: str) -> ClipView:
        """Stop the clip and let go of its files, as `ClipJobs.cancel`."""
        job = self._find(clip, client)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
            # Cancelled before it began, the task has let go of nothing.
            await self._let_go(job)
            job.move(JobState.CANCELLED)
        self._drop(job)
        return job.view()

    def _forget(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._jobs.values() if job.ended is not None and now - job.ended > self._keep]:
            self._drop(job)

    def _drop(self, job: VideoJob) -> None:
        self._jobs.pop(job.clip.id, None)
        job.file.drop()
