"""Submissions to the queue: their content, the sizes that are never taken, and the errors for a refusal."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from service.core.errors import ClientLimit, DeadlineExceeded, QueueFull, TooLarge
from service.distributed.broker import scripts
from service.distributed.broker.capacity import Capacity
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.keys import GROUP, Keys, slot_of
from service.settings import Settings

#: Part of `max_queue_bytes` that the frames of jobs may fill; the rest is for calls alone.
JOBS_SHARE = 0.75
#: Bytes that the state of a job takes beside its results.
RECORD_BYTES = 1024


#: Seconds from the arrival of background work to its place in the index of what is due (ten years): behind all live
#: work, and told from it by that; how long it has waited is read from it.
BEHIND_LIVE_S = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The arguments of SUBMIT; `deadline` and `order` in seconds from now, `keep` in seconds once it has ended."""

    id: str
    frames: Mapping[int, bytes]
    items: int
    priority: int
    bucket: str
    work: float  #: predicted seconds of one item
    saving: float = 0.0  #: seconds of it that an adaptive call's shortest way saves
    deadline: float | None
    order: float  #: its place in the index of what is due; BEHIND_LIVE_S for background work
    keep: float
    task: bytes
    client: str = ""
    holder: str = ""  #: whose turns it takes and whose share it counts in: the client, or the address of who has no key
    fingerprint: str = ""
    webhook: str | None = None
    waits: bool = False  #: this front end waits for it; else it is a job and persists until it has ended
    room: int = 0  #: bytes that a job's results may take
    is_trial: bool = False  #: taken though it is predicted to be late
    own_reply: bool = False  #: what becomes of it is told in a stream of its own, not in that of the front end


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A job of a submission's id that was there already: whose it is, and of what."""

    client: str
    fingerprint: str


class ResultsFull(QueueFull):
    """`missing` bytes of room for a job's results are to be made first."""

    def __init__(self, missing: int, retry_after: float) -> None:
        super().__init__("results hold as many bytes as they may; fetch or delete some", retry_after=retry_after)
        self.missing = missing


def job_bytes(settings: Settings) -> int:
    """Return the most bytes of frames of all jobs."""
    return int(JOBS_SHARE * settings.max_queue_bytes)


def check_size(s: Submission, settings: Settings, server: Capacity) -> None:
    """Raise TooLarge for a submission that an empty queue would not take either."""
    # A worker asks for both frames of a pair together.
    most_bytes = min(server.bulk, server.value_limit // 2) if server.reply else server.bulk
    if max(map(len, s.frames.values())) > most_bytes:
        raise TooLarge(f"a frame may have {most_bytes} bytes in Redis", field="frames")
    size, results = sum(map(len, s.frames.values())), server.result_limit(settings)
    if size > settings.max_queue_bytes:
        raise TooLarge(f"frames of {size} bytes; the queue takes {settings.max_queue_bytes}", field="frames")
    if s.waits:
        return
    if size > (limit := job_bytes(settings)):
        raise TooLarge(f"frames of {size} bytes; those of jobs may have {limit}", field="frames")
    if s.room > results:
        raise TooLarge(f"results would take up to {s.room} bytes; at most {results} fit", field="frames")
    if s.holder and 0 < settings.max_client_items < s.items:
        raise TooLarge(f"at most {settings.max_client_items} predictions of one client at once", field="frames")


def submit_call(
    keys: Keys, s: Submission, token: str, front: str, settings: Settings, server: Capacity, workers: int
) -> scripts.ScriptCall:
    """Return the call of SUBMIT for frames uploaded under `token`; `front` waits for it, '' where it is a job."""
    keep_ms = max(1, round(1000 * s.keep))
    deadline_ms = 0 if s.deadline is None else max(1, round(1000 * s.deadline))
    return scripts.SUBMIT.bind(
        job=keys.job(s.id),
        payload=keys.payload(token),
        load=keys.load,
        stream=keys.stream(s.priority, s.bucket, slot_of(s.holder)),
        buckets=keys.buckets,
        wake=keys.wake,
        clients=keys.clients,
        results=keys.results,
        kept=keys.kept,
        due=keys.due,
        group=GROUP,
        most_items=settings.max_queue_items,
        most_bytes=settings.max_queue_bytes,
        items=s.items,
        size=sum(map(len, s.frames.values())),
        item_work_us=round(1e6 * s.work),
        saving_us=round(1e6 * s.saving),
        deadline_ms=deadline_ms,
        order_ms=round(1000 * s.order),
        job_id=s.id,
        token=token,
        front=front,
        keep_ms=keep_ms,
        fingerprint=s.fingerprint,
        client=s.client,
        task=s.task,
        webhook=s.webhook or "",
        workers=max(1, workers),
        waiting_ms=deadline_ms + keep_ms if s.waits else 0,
        most_job_bytes=job_bytes(settings),
        room_bytes=s.room,
        most_result_bytes=server.result_limit(settings),
        most_client_items=settings.max_client_items,
        is_trial=int(s.is_trial),
        own_reply=1 if s.own_reply else "",
        holder=s.holder,
    )


def refusal(
    code: int, number: int, settings: Settings, workers: int, rng: random.Random
) -> QueueFull | ClientLimit | DeadlineExceeded:
    """Build the error of a refusal by SUBMIT; `number` is microseconds of work, or (-6) the bytes that are missing."""
    if code == -5:
        limit = settings.max_client_items
        return ClientLimit(f"at most {limit} predictions of one client's jobs at once", retry_after=1.0)
    if code == -6:
        return ResultsFull(number, retry_after(60.0, rng))
    wait = number / 1e6 / max(1, workers)
    if code == -3:
        return DeadlineExceeded(
            f"the queue holds {wait:.2f} s of work, more than the deadline allows",
            reason="unmeetable",
            retry_after=retry_after(wait, rng),
        )
    unit = "items" if code == -1 else "bytes"
    return QueueFull(f"the queue holds as many {unit} as it may", retry_after=retry_after(wait, rng))


def retry_after(wait: float, rng: random.Random) -> float:
    """Return seconds until half of the work is done, room enough; spread, lest the refused return as one."""
    return max(1.0, wait / 2) * rng.uniform(0.8, 1.2)


async def cancel_call(client: AsyncRedis, keys: Keys, job: str, *, keep: float, tell: bool) -> scripts.ScriptCall:
    """Return the call of CANCEL, reading two fields of the job; its state is then kept for `keep` seconds."""
    return cancel_of(keys, job, await client.hmget(keys.job(job), "p", "st"), keep=keep, tell=tell)


def cancel_of(keys: Keys, job: str, fields: list[bytes | None], *, keep: float, tell: bool) -> scripts.ScriptCall:
    """Return the call of CANCEL from the job's fields `p` and `st`, which are there already."""
    token, stream = ((value or b"").decode() for value in fields)
    return scripts.CANCEL.bind(
        job=keys.job(job),
        payload=keys.payload(token),
        events=keys.events,
        cancels=keys.cancels,
        # An unknown job has no stream; the name of none takes its place, in the same slot.
        stream=stream or keys.stream(0, "none"),
        load=keys.load,
        buckets=keys.buckets,
        clients=keys.clients,
        results=keys.results,
        kept=keys.kept,
        due=keys.due,
        job_id=job,
        keep_ms=max(1, round(1000 * keep)),
        tell=int(tell),
        group=GROUP,
    )
