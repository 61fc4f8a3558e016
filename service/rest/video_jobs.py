"""Clips being made while nobody waits: in this process only, few, each with its progress, its file and an end."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import IO, Any

from service.core.errors import Conflict, Internal, NotFound, QueueFull, ServiceError

log = logging.getLogger("service.rest")

#: Clips kept, finished ones included: each has a file in the temporary folder. Fetched and failed ones make room.
MOST = 16
#: Seconds a finished clip is kept at most, whatever other jobs are.
LONGEST = 3600.0


class VideoJob:
    """One clip."""

    def __init__(
        self,
        client: str,
        media_type: str,
        total: int | None,
        progress: Callable[[], int],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.id = str(uuid.uuid4())
        self.client, self.media_type, self.close = client, media_type, close
        self._total, self._progress = total, progress
        self.state = "running"
        self.taken = False  #: somebody has its result
        self.failure: ServiceError | None = None
        self.ended: float | None = None
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the job is dropped
        self.task: asyncio.Task[None] | None = None

    @property
    def expendable(self) -> bool:
        """Whether nobody is likely to miss it: it was fetched, or it failed."""
        return self.taken or self.failure is not None

    def document(self) -> dict[str, Any]:
        """As JSON; like other jobs' documents."""
        done = self._progress()
        told: dict[str, Any] = {
            "id": self.id,
            "state": self.state,
            "done": done,
            "items": self._total,
            "progress": self._share(done),
            "durable": False,
            "links": {"self": f"/v1/video/{self.id}", "result": f"/v1/video/{self.id}/result"},
        }
        if self.failure is not None:
            told["error"] = {"code": self.failure.code, "message": self.failure.message, "field": self.failure.field}
        return {name: value for name, value in told.items() if value is not None}

    def _share(self, done: int) -> float | None:
        if self.state == "done":
            return 1.0
        return round(min(1.0, done / self._total), 4) if self._total else None

    def result(self) -> bytes:
        """The clip; Conflict while it is being made, its own error if it failed."""
        if self.failure is not None:
            raise self.failure
        if self.state != "done":
            raise Conflict(f"this clip is {self.state}")
        self.file.seek(0)
        clip = self.file.read()
        self.taken = True
        return clip


class VideoJobs:
    """All of them; another client's is NotFound, as one that never was."""

    def __init__(self, keep_s: float) -> None:
        self._keep = min(keep_s, LONGEST)
        self._jobs: dict[str, VideoJob] = {}

    def begin(
        self,
        client: str,
        pieces: AsyncGenerator[bytes, None],
        total: int | None,
        media_type: str,
        progress: Callable[[], int],
        close: Callable[[], Awaitable[None]],
    ) -> VideoJob:
        """Makes the clip from now on; QueueFull where too many are kept. `close` lets go of what `pieces` holds."""
        self._forget()
        if len(self._jobs) >= MOST:
            oldest = next((kept for kept in self._jobs.values() if kept.expendable), None)
            if oldest is None:
                raise QueueFull("as many clips are kept as may be; take results and delete them", retry_after=30.0)
            self._drop(oldest)
        job = VideoJob(client, media_type, total, progress, close)
        self._jobs[job.id] = job
        # owned: by the job, whose state tells how it ended; _make catches all
        job.task = asyncio.create_task(self._make(job, pieces))
        return job

    async def _make(self, job: VideoJob, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await asyncio.to_thread(job.file.write, piece)
            job.state = "done"
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

    def get(self, id: str, client: str) -> VideoJob:
        """How it stands."""
        self._forget()
        job = self._jobs.get(id)
        if job is None or job.client != client:
            raise NotFound("there is no such clip", field="job")
        return job

    async def cancel(self, id: str, client: str) -> VideoJob:
        """Stops it and lets go of its file."""
        job = self.get(id, client)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
            # Cancelled before it began, the task has closed nothing.
            await job.close()
            job.state = "cancelled"
        self._drop(job)
        return job

    def _forget(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._jobs.values() if job.ended is not None and now - job.ended > self._keep]:
            self._drop(job)

    def _drop(self, job: VideoJob) -> None:
        self._jobs.pop(job.id, None)
        job.file.close()
