"""Jobs kept in Redis: accepted by any front end, reported by any other, done by any worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from service.core.bucket import Bucket
from service.core.errors import Conflict, Internal, NotFound, ServiceError, Unavailable
from service.core.types import PredictResult, Priority
from service.distributed.broker import buckets, scripts, serialization
from service.distributed.broker.client import FAILED, LOST, pipeline
from service.distributed.broker.job_objects import LARGE, job_objects
from service.distributed.broker.keys import GROUP, whole
from service.distributed.broker.submission import BEHIND_LIVE_S, RECORD_BYTES, Duplicate, ResultsFull, Submission
from service.distributed.frontend.asking import ask
from service.distributed.frontend.owned import own, owned_records
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.frontend.results import ResultStore
from service.distributed.frontend.watchers import JobWatchers
from service.serving.answer_size import check_answer
from service.serving.jobs.job import Failure, JobState, JobView, NewJob
from service.settings import Settings

T = TypeVar("T")

#: A place in the queue further back than this is told as this.
FAR = 1000
#: Times that room for results is made for one job; others may take it first.
ROOM_TRIES = 3


class RedisJobs:
    """`service.serving.jobs.job.Jobs` over a started `QueueClient`, whose `events` it takes."""

    durable = True

    @property
    def durability(self) -> str | None:
        """Return `Jobs.durability` of the server that this front end last reached."""
        return self._front.server.durability

    def __init__(self, settings: Settings, front: QueueClient) -> None:
        self._settings = settings
        self._front = front
        self.watchers = JobWatchers()
        self._objects = job_objects(settings, front.client, front.keys)
        self._results = ResultStore(front.client, front.keys, self._remove_elsewhere)
        front.events = self.watchers.moved

    async def submit(self, job: NewJob) -> tuple[JobView, bool]:
        """Submit as `Jobs.submit`; once it returns, the job is as safe as the server's disk settings make any write."""
        first, options, holder = job.frames[0], job.options, job.holder or job.client
        self._front.announcements.check(options.version)
        self._front.check_keeps_jobs()
        bucket = Bucket.of(first.height, first.width, options.scale)
        limit = self._front.capacity.answer_limit(self._settings)
        answer = check_answer(first.width * first.height, options, limit)
        # Encoded in a thread: a long sequence is many megabytes.
        frames = await asyncio.to_thread(
            lambda: {k: serialization.frame_bytes(frame) for k, frame in enumerate(job.frames)}
        )
        is_elsewhere = self._objects is not None and self._front.announcements.stores == {self._objects.name}
        if is_elsewhere:
            answer = min(answer, LARGE)
        notes = [serialization.Note.RESULTS_ELSEWHERE] if is_elsewhere else []
        submission = Submission(
            id=job.id,
            frames=frames,
            items=job.items,
            priority=Priority.BACKGROUND,
            bucket=buckets.name(bucket),
            work=self._front.price(bucket, options).most,
            deadline=None,
            order=BEHIND_LIVE_S,
            keep=self._settings.job_ttl_s,
            task=serialization.task_bytes(options, Priority.BACKGROUND, holder, job.traceparent, notes=notes),
            client=job.client,
            holder=holder,
            fingerprint=job.fingerprint,
            webhook=job.webhook,
            room=job.items * answer + RECORD_BYTES,
        )
        outcome = await (self._submit_elsewhere if is_elsewhere else self._submit)(submission)
        if isinstance(outcome, Duplicate):
            if (outcome.client, outcome.fingerprint) != (job.client, job.fingerprint):
                raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key")
            return await self.get(job.id, job.client), False
        with contextlib.suppress(ServiceError):  # accepted all the same; it would only be missing in a list
            await own(self._front, job.client, job.id, outcome)
        view = JobView(job.id, JobState.QUEUED, job.items, 0, outcome / 1000, wait=self._front.snapshot.wait)
        return view, True

    async def _submit(self, submission: Submission) -> int | Duplicate:
        """Submit as `QueueClient.submit`; fetched results make room, oldest first, before a job is refused for them."""
        for _ in range(ROOM_TRIES):
            try:
                return await self._front.submit(submission)
            except ResultsFull as full:
                if not await self._ask(self._results.make_room(full.missing)):
                    raise
        return await self._front.submit(submission)  # others took the room that was made

    async def _submit_elsewhere(self, submission: Submission) -> int | Duplicate:
        """Submit as `_submit`, with large frames in the object store; they go again where the job is not accepted.

        Where it is not known whether it was (Unavailable), they stay until they are swept. Raises StoreUnavailable.
        """
        assert self._objects is not None
        try:
            frames = await self._objects.put_frames(submission.id, submission.frames)
        except LOST:
            raise self._front.unavailable() from None
        try:
            outcome = await self._submit(replace(submission, frames=frames))
        except ServiceError as refusal:
            if not isinstance(refusal, Unavailable):
                await self._objects.discard(frames.values())
            raise
        if isinstance(outcome, Duplicate):
            await self._objects.discard(frames.values())
        return outcome

    async def _remove_elsewhere(self, job: str) -> None:
        if self._objects is not None:
            await self._objects.remove(job)

    async def get(self, job: str, client: str) -> JobView:
        """Return a job's state, as `Jobs.get`; Unavailable while Redis is away."""
        fields = await self._ask(self._front.client.hgetall(self._front.keys.job(job)))
        # A call that waits has a state of the same form, and is no job.
        if fields.get(b"f") or fields.get(b"c", b"").decode() != client:
            raise NotFound(f"there is no job {job[:64]!r}")
        view = job_view(job, fields)
        if view is None:
            raise NotFound(f"there is no job {job[:64]!r}: its record is lost or incomplete; submit it again")
        if view.state is not JobState.QUEUED or not {b"st", b"id"} <= fields.keys():
            return view
        stream, entry = fields[b"st"].decode(), fields[b"id"]
        bound = scripts.AHEAD.bind(stream=stream, load=self._front.keys.load, group=GROUP, entry=entry, most_items=FAR)
        ahead, _ = await self._ask(scripts.call(self._front.client, bound))
        return replace(view, position=ahead, wait=self._front.snapshot.wait)

    async def of_client(self, client: str) -> list[JobView]:
        """List as `Jobs.of_client`."""
        views = [
            job_view(job, fields) for job, fields in await owned_records(self._front, client) if not fields.get(b"f")
        ]
        return [view for view in views if view is not None]

    async def changed(self, seen: JobView, client: str, seconds: float) -> JobView:
        """Wait for a change, as `Jobs.changed`."""
        return await self.watchers.changed(seen, lambda: self.get(seen.id, client), seconds)

    async def result(self, job: str, client: str, item: int) -> PredictResult:
        """Return one result, as `Jobs.result`. Items of a job that still runs are returned as they come."""
        view = await self.get(job, client)
        if not 0 <= item < view.items:
            raise NotFound(f"the job has items 0 to {view.items - 1}")
        if view.failure is not None:
            raise view.failure.error()
        keys = self._front.keys
        # Together: an answer without its mark is of a job whose record was lost, and which was accepted anew since.
        commands = [("HEXISTS", keys.job(job), f"d{item}"), ("GET", keys.out(job, item))]
        has_mark, data = await self._ask(pipeline(self._front.client, commands))
        if not has_mark or data is None:
            if view.state is JobState.DONE:
                raise NotFound("the result has expired")
            raise Conflict(f"the job is {view.state}; there is no such result")
        try:
            if self._objects is not None:
                data = await self._objects.get(data)
            result = await asyncio.to_thread(serialization.read_result, data, job)
        except NotFound:
            raise NotFound("the result has expired") from None
        except serialization.UnreadableEntry:
            raise Internal("the result was written by another version of the service") from None
        with contextlib.suppress(*FAILED):  # it would only make room sooner
            await self._results.fetched(job, item)
        return result

    async def cancel(self, job: str, client: str) -> JobView:
        """Cancel as `Jobs.cancel`. A job that has ended is forgotten, with its results."""
        view = await self.get(job, client)
        if view.state.final:
            await self._ask(self._results.forget(job, view.items))
            return view
        await self._ask(self._front.withdraw(job, keep=self._settings.job_ttl_s, tell=True))
        outcome = await self.get(job, client)
        if outcome.state is JobState.CANCELLED:
            await self._ask(self._front.client.unlink(*(self._front.keys.out(job, k) for k in range(view.items))))
            await self._remove_elsewhere(job)
        return outcome

    async def _ask(self, question: Awaitable[T]) -> T:
        return await ask(self._front, question)


def job_view(job: str, fields: dict[bytes, bytes]) -> JobView | None:
    """Read a job's hash as its view; None where part of it is gone, as after a server that lost writes.

    What another release wrote is told as far as it is known here.
    """
    if not fields.keys() >= scripts.RECORD:
        return None
    finished_at, failure = fields.get(b"end"), fields.get(b"e")
    return JobView(
        id=job,
        state=_state(fields),
        items=max(1, whole(fields.get(b"n"))),
        done=whole(fields.get(b"done")),
        created=whole(fields.get(b"at")) / 1000,
        finished=None if finished_at is None else whole(finished_at) / 1000,
        failure=_failure(failure),
    )


def _state(fields: dict[bytes, bytes]) -> JobState:
    """Read a job's state; of one that is not known here only whether it has ended is certain."""
    try:
        return JobState(fields.get(b"s", b"").decode(errors="replace"))
    except ValueError:
        return JobState.FAILED if b"end" in fields else JobState.RUNNING


def _failure(data: bytes | None) -> Failure | None:
    try:
        return None if data is None else serialization.read_failure(data)
    except serialization.UnreadableEntry:
        return Failure("internal", "the job failed; why, another version of the service has written")
