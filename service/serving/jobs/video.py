"""Clips being made while nobody waits: in this process only, few, each with its progress, its file and an end."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from service.core.errors import Conflict, Internal, NotFound, QueueFull, ServiceError, Unavailable
from service.serving.accepted_work import AcceptedWork
from service.serving.video.clip_disk import ClipDisk, ClipFile, failed_for_room
from service.serving.video.clip_places import ClipPlaces, PlaceTicket

log = logging.getLogger("service.rest")

#: Clips kept, finished ones included. Fetched and failed ones make room; for another caller's, also unfetched ones.
MOST = 16
#: Seconds a finished clip is kept at most, whatever other jobs are.
LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """How a clip is made: its bytes, how far it is, and how to let go of what it holds if it is never begun."""

    pieces: AsyncGenerator[bytes, None]
    media_type: str
    total: int | None  #: frames, where they are known
    progress: Callable[[], int]  #: frames made
    close: Callable[[], Awaitable[None]]


class VideoJob:
    """One clip. `client` may see it; `caller` is who is counted: the same, or an address where there are no keys."""

    def __init__(self, client: str, caller: str, maker: ClipMaker, file: ClipFile, ticket: PlaceTicket) -> None:
        self.id = str(uuid.uuid4())
        self.client, self.caller, self.maker = client, caller, maker
        self.file, self.ticket = file, ticket
        self.state = "running" if ticket.turn.is_set() else "queued"
        self._sent = 0  #: bytes from the start that somebody has without a gap
        self.failure: ServiceError | None = None
        self.ended: float | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def taken(self) -> bool:
        """Tell whether somebody has all of its result, from one answer or put together from several."""
        return self.state == "done" and self._sent >= self.file.nbytes

    def sent(self, start: int, stop: int) -> None:
        """Note that bytes `start` to `stop` reached their reader; a player's look at both ends is no fetching."""
        if start <= self._sent:
            self._sent = max(self._sent, stop)

    @property
    def expendable(self) -> bool:
        """Tell whether nobody is likely to miss it: it was fetched, or it failed."""
        return self.taken or self.failure is not None

    def document(self) -> dict[str, Any]:
        """Describe the job as JSON; like other jobs' documents."""
        frames = self.maker.progress()
        fields: dict[str, Any] = {
            "id": self.id,
            "state": self.state,
            "done": frames,
            "items": self.maker.total,
            "progress": self._share(frames),
            "durable": False,
            "links": {"self": f"/v1/video/{self.id}", "result": f"/v1/video/{self.id}/result"},
        }
        if self.failure is not None:
            fields["error"] = {"code": self.failure.code, "message": self.failure.message, "field": self.failure.field}
        return {name: value for name, value in fields.items() if value is not None}

    def _share(self, frames: int) -> float | None:
        if self.state == "done":
            return 1.0
        return round(min(1.0, frames / self.maker.total), 4) if self.maker.total else None

    def check_done(self) -> None:
        """Return if there is a clip to fetch; Conflict while it is being made, its own error if it failed."""
        if self.failure is not None:
            raise self.failure
        if self.state != "done":
            raise Conflict(f"this clip is {self.state}")


class VideoJobs:
    """All of them; another client's is NotFound, as one that never was."""

    def __init__(self, keep_s: float, places: ClipPlaces, disk: ClipDisk, work: AcceptedWork) -> None:
        self._keep = min(keep_s, LONGEST)
        self._places, self._disk, self._work = places, disk, work
        self._jobs: dict[str, VideoJob] = {}  #: oldest first

    def begin(self, client: str, caller: str, maker: ClipMaker) -> VideoJob:
        """Make the clip when it is its turn. QueueFull where too many are kept, ClientLimit if too many wait."""
        self._forget()
        self._places.check_line(caller)
        if len(self._jobs) >= MOST:
            self._make_room(caller)
        job = VideoJob(client, caller, maker, self._disk.open(caller), self._places.enter(caller))
        self._jobs[job.id] = job
        # owned: by the job, whose state tells how it ended; _make catches all
        job.task = asyncio.create_task(self._make(job))
        return job

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
            async with aclosing(job.maker.pieces) as pieces:
                await job.ticket.turn.wait()
                if self._work.stopping.is_set():
                    raise Unavailable("the service is shutting down", reason="draining")
                job.state = "running"
                with self._work.accepted():
                    async for piece in pieces:
                        await self._write(job.file, piece)
            job.state = "done"
            job.file.expendable = lambda: job.taken
            job.file.give_up = lambda: self._drop(job)
        except asyncio.CancelledError:
            job.state = "cancelled"
            raise
        except ServiceError as error:
            job.state, job.failure = "failed", error
        except Exception:
            log.exception("a video job failed", extra={"job": job.id})
            job.state, job.failure = "failed", Internal("internal error; the log has the cause under this job's id")
        finally:
            job.ended = time.monotonic()
            if job.state != "done":
                job.file.drop()
            await self._let_go(job)

    async def _let_go(self, job: VideoJob) -> None:
        """Free what making it takes; again does nothing."""
        self._places.leave(job.ticket)
        await job.maker.close()

    async def _write(self, file: ClipFile, piece: bytes) -> None:
        try:
            await file.write(piece)
        except QueueFull as error:
            raise failed_for_room(error) from error

    def get(self, id: str, client: str) -> VideoJob:
        """Return the job. Raises NotFound."""
        self._forget()
        job = self._jobs.get(id)
        if job is None or job.client != client:
            raise NotFound("there is no such clip", field="job")
        return job

    async def cancel(self, id: str, client: str) -> VideoJob:
        """Stop the job and let go of its file."""
        job = self.get(id, client)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
            # Cancelled before it began, the task has let go of nothing.
            await self._let_go(job)
            job.state = "cancelled"
        self._drop(job)
        return job

    def _forget(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._jobs.values() if job.ended is not None and now - job.ended > self._keep]:
            self._drop(job)

    def _drop(self, job: VideoJob) -> None:
        self._jobs.pop(job.id, None)
        job.file.drop()
