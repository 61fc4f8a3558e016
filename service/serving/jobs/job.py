"""What a job is and how it moves: pure, whatever keeps the jobs.

A job is a row of frames; item k predicts what follows frames k and k+1. Knows neither Redis nor HTTP.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from service.core.errors import InvalidRequest, ServiceError
from service.core.types import Frame, Options, PredictResult
from service.core.urls import normal_url

#: Longest Idempotency-Key; what a UUID or a content hash needs, several times over.
MAX_KEY = 255
#: Jobs and clips that a list looks at, the client's newest ones.
LISTED = 1000


class JobState(enum.StrEnum):
    """Where a job stands. DONE, FAILED and CANCELLED are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Tell whether nothing moves it any more (except an operator's replay)."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Failure:
    """A ServiceError as a value: what is stored, sent and shown."""

    code: str
    message: str
    field: str | None = None
    reason: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ServiceError) -> Failure:
        """Record an error as a value."""
        return cls(error.code, error.message, error.field, error.reason, error.retry_after)

    def error(self) -> ServiceError:
        """Rebuild the error, of its own class; an unknown code becomes an internal error."""
        kinds = {kind.code: kind for kind in ServiceError.__subclasses__()}
        kind = kinds.get(self.code, ServiceError)
        return kind(self.message, field=self.field, retry_after=self.retry_after, reason=self.reason)


@dataclass(frozen=True, slots=True, eq=False)
class NewJob:
    """A checked job to be accepted: at least two frames of one size. `fingerprint` is of the whole body."""

    id: str
    client: str
    frames: tuple[Frame, ...]
    options: Options
    fingerprint: str
    webhook: str | None = None
    traceparent: str | None = None
    holder: str = ""  #: whose turns it takes and whose share it counts in: the client, or who has no key by its address

    def __post_init__(self) -> None:
        if len(self.frames) < 2:
            raise InvalidRequest("a job needs at least two frames", field="frames")
        first = self.frames[0]
        for k, frame in enumerate(self.frames):
            if frame.pixels.shape != first.pixels.shape:
                raise InvalidRequest(
                    f"all frames must have one size: the first is {first.width}x{first.height}, "
                    f"number {k + 1} is {frame.width}x{frame.height}",
                    field=f"frames[{k}]",
                )

    @property
    def items(self) -> int:
        """Count the predictions to make."""
        return len(self.frames) - 1


@dataclass(frozen=True, slots=True)
class JobView:
    """What is told of a job. `position`: items of its size ahead of it; `wait`: predicted seconds to its start."""

    id: str
    state: JobState
    items: int
    done: int
    created: float  #: seconds since the epoch
    finished: float | None = None
    position: int | None = None
    wait: float | None = None
    failure: Failure | None = None

    @property
    def progress(self) -> float:
        """Return the share that is done, 0..1."""
        return self.done / self.items

    def same_as(self, other: JobView) -> bool:
        """Tell whether a watcher has seen all of this already; the place in the queue is no news."""
        return (self.state, self.done) == (other.state, other.done)


class Jobs(Protocol):
    """Keeps jobs.

    Implemented by `service.distributed.frontend.job_store` and, inside one process, by `service.serving.jobs.local`.

    Every call names the client that asks; another client's job is NotFound, as one that never was.
    """

    @property
    def durable(self) -> bool:
        """Tell whether jobs outlive this process."""
        ...

    @property
    def durability(self) -> str | None:
        """Return what keeps jobs through a power cut: "fsync:always", "fsync:everysec" or "none"; None: unknown."""
        ...

    async def submit(self, job: NewJob) -> tuple[JobView, bool]:
        """Accept a job: (view, True); if one of this id and fingerprint is there already: (its view, False).

        Raises Conflict for the same id with another fingerprint, QueueFull, Unavailable.
        """
        ...

    async def get(self, job: str, client: str) -> JobView:
        """Return the job's view. Raises NotFound."""
        ...

    async def of_client(self, client: str) -> list[JobView]:
        """List the client's jobs, newest first: LISTED at most."""
        ...

    async def changed(self, seen: JobView, client: str, seconds: float) -> JobView:
        """Wait until its view differs from `seen`, at most `seconds`; return it. Raises NotFound once it expired."""
        ...

    async def result(self, job: str, client: str, item: int) -> PredictResult:
        """Return one item's answer. Raises Conflict while there is none, the job's error if it failed, NotFound."""
        ...

    async def cancel(self, job: str, client: str) -> JobView:
        """Withdraw a job, or remove a final one with its results; return its view now, or the last. Raises NotFound."""
        ...


def job_id(client: str, key: str | None) -> str:
    """Return a new id, or always the same one for this client's Idempotency-Key: so one atomic check finds repeats."""
    if key is None:
        return str(uuid.uuid4())
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidRequest(f"Idempotency-Key must be 1 to {MAX_KEY} printable characters", field="Idempotency-Key")
    digest = hashlib.sha256(f"{len(client)}:{client}:{key}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def fingerprint(parts: Iterable[bytes]) -> str:
    """Hash the whole body, part by part: equal only for equal parts (lengths are hashed too)."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


#: Errors that say "not here, not now" rather than "not ever".
PASSING = frozenset({"unavailable", "queue_full", "client_limit"})


# --- webhooks ---------------------------------------------------------------------------------------------------------

#: Tries of one webhook; with the waits below the last comes about 45 minutes after the first.
WEBHOOK_TRIES = 10
#: Seconds of the longest wait for another try.
WEBHOOK_LONGEST_S = 750.0


def webhook_wait(tries: int, chance: float) -> float | None:
    """Return seconds until the next try after `tries` failed ones, None to give up; `chance` in 0..1 spreads them."""
    if tries >= WEBHOOK_TRIES:
        return None
    return min(WEBHOOK_LONGEST_S / 1.25, 5.0 * 2.0 ** (tries - 1)) * (0.75 + 0.5 * chance)


def webhook_signature(secret: str, timestamp: int, body: bytes) -> str:
    """Sign as `t=seconds,v1=hex`: HMAC-SHA256 of "seconds.body", so an old delivery cannot be sent again as new."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where webhooks may go: URL prefixes from the settings. None given: nowhere."""

    prefixes: tuple[str, ...] = field(default_factory=tuple)

    def check(self, url: str | None) -> str | None:
        """Return `url` in its normal form, or raise InvalidRequest. A prefix ends in a slash: the host cannot go on."""
        if url is None:
            return None
        try:
            address = normal_url(url)
            prefixes = [normal_url(prefix) for prefix in self.prefixes]
        except ValueError as error:
            raise InvalidRequest(f"webhook is not a plain URL: {error}", field="webhook") from None
        if not any(address.startswith(prefix) for prefix in prefixes):
            raise InvalidRequest("webhooks to this address are not allowed here", field="webhook")
        return address
