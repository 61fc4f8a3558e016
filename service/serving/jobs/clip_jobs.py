"""Says what a clip that is made while nobody waits is, and what may be asked of it, whatever keeps it.

Kept in one process by `service.serving.jobs.video`, in Redis by `service.distributed.frontend.clip_store`. Knows no
transport.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from service.core.errors import Conflict
from service.serving.jobs.job import Failure, JobState, JobView
from service.serving.video.clip_disk import ClipFile
from service.serving.video.conversion import ClipOrder


@dataclass(frozen=True, slots=True)
class NewClip:
    """A checked clip to be accepted. `client` may see it; `holder` is who is counted: the same, or an address."""

    id: str
    client: str
    holder: str
    order: ClipOrder
    fingerprint: str  #: of the whole body and of what is asked for
    frames: int | None = None  #: None where nothing tells
    webhook: str | None = None
    name: str = "clip"  #: what the result's file is called, without its ending

    @property
    def file_name(self) -> str:
        """Return the name of the result's file."""
        return self.name + self.order.suffix

    @property
    def sharer(self) -> str:
        """Return whom its frames' predictions take turns as: the key's name, else the address."""
        return self.client or self.holder


@dataclass(frozen=True, slots=True)
class ClipView:
    """What is told of a clip. `nbytes` of its result, once it is done; `notes`: what is left out or changed."""

    id: str
    state: JobState
    items: int | None
    done: int
    created: float  #: seconds since the epoch
    media_type: str
    file_name: str
    finished: float | None = None
    nbytes: int = 0
    notes: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def progress(self) -> float | None:
        """Return the share that is done, 0..1; None where nothing tells how many frames there are."""
        if self.state is JobState.DONE:
            return 1.0
        return round(min(1.0, self.done / self.items), 4) if self.items else None

    @property
    def etag(self) -> str:
        """Return the entity tag of its result: the id may be another clip's once this one is deleted."""
        return f'"{self.id}-{round(1000 * self.created):x}"'

    def same_as(self, other: ClipView) -> bool:
        """Tell whether a watcher has seen all of this already."""
        return (self.state, self.done, self.notes) == (other.state, other.done, other.notes)

    def as_job(self) -> JobView:
        """Return the clip as a job's view, the form that webhooks send."""
        items = max(1, self.items or self.done)
        return JobView(self.id, self.state, items, self.done, self.created, self.finished, failure=self.failure)

    def check_done(self) -> None:
        """Return if there is a clip to fetch; raise Conflict while it is being made, its own error if it failed."""
        if self.failure is not None:
            raise self.failure.error()
        if self.state is not JobState.DONE:
            raise Conflict(f"this clip is {self.state}")


class ClipJobs(Protocol):
    """Keeps clips. Every call names the client that asks; another client's clip is NotFound, as one that never was."""

    @property
    def durable(self) -> bool:
        """Tell whether clips outlive this process."""
        ...

    @property
    def durability(self) -> str | None:
        """Return what keeps them through a power cut, as `Jobs.durability`."""
        ...

    async def submit(self, clip: NewClip, body: ClipFile) -> tuple[ClipView, bool]:
        """Accept a clip, whose body is this object's from then on: (view, True).

        If one of this id and fingerprint is there already: (its view, False), and `body` is dropped. Raises Conflict
        for the same id with another fingerprint, QueueFull, ClientLimit, Unavailable; `body` is then the caller's.
        """
        ...

    async def get(self, clip: str, client: str) -> ClipView:
        """Return the clip's view. Raises NotFound."""
        ...

    async def changed(self, seen: ClipView, client: str, seconds: float) -> ClipView:
        """Wait until its view differs from `seen`, at most `seconds`; return it. Raises NotFound once it is gone."""
        ...

    async def of_client(self, client: str) -> list[ClipView]:
        """List the client's clips, newest first."""
        ...

    def pieces(self, view: ClipView, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the result's bytes from `start` to `stop`. Raises NotFound if it is dropped on the way."""
        ...

    async def sent(self, view: ClipView, start: int, stop: int) -> None:
        """Note that bytes `start` to `stop` of the result reached their reader."""
        ...

    async def cancel(self, clip: str, client: str) -> ClipView:
        """Stop the clip and drop all of it; return its last view. Raises NotFound."""
        ...
