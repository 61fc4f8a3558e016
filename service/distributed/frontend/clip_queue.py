"""Clips that wait in Redis, leased to the front ends that make them: `service.serving.jobs.clip_queue` over a queue."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from service.core.errors import Conflict, ServiceError, TooLarge, Unavailable
from service.distributed.broker import clip_record, scripts, serialization
from service.distributed.broker.client import FAILED, LOST, end
from service.distributed.broker.clip_objects import BODY, NO_ROOM, NOT_OURS, RESULT, ClipClaim, ClipObjects
from service.distributed.broker.keys import whole
from service.distributed.broker.serialization import UnreadableEntry
from service.distributed.frontend.asking import ask
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.frontend.results import ResultStore
from service.distributed.frontend.watchers import JobWatchers, hinted
from service.serving.jobs.clip_jobs import NewClip
from service.serving.jobs.clip_queue import KeptPrediction
from service.serving.jobs.job import Failure
from service.serving.video.clip_disk import ClipFile
from service.settings import Settings

T = TypeVar("T")

GONE = "the clip is no longer this process's to end"
#: Seconds after which a clip is offered again that this release cannot read.
UNREADABLE_S = 10.0
#: Milliseconds from now to which leases are cut, at least: makers renew theirs every second, whatever their length.
CUT_MS = 60_000
#: Seconds in which a clip is given back as its process stops; what takes longer lapses.
GOODBYE_S = 1.0


class RedisClipQueue:
    """Takes clips of one queue, over a started `QueueClient`."""

    def __init__(self, settings: Settings, front: QueueClient, objects: ClipObjects, watchers: JobWatchers) -> None:
        self._settings, self._front, self._objects, self._watchers = settings, front, objects, watchers

    async def take(self, busy: Collection[str]) -> RedisClipLease | None:
        """Lease as `ClipQueue.take`."""
        keys = self._front.keys
        look = scripts.CLIP_LOOK.bind(
            line=keys.clip_line,
            leases=keys.clip_leases,
            served=keys.clip_served,
            busy="\n".join(("", *busy, "")),
            most_ms=max(CUT_MS, 2 * self._settings.lease_ms),
        )
        candidate = await ask(self._front, scripts.call(self._front.steady, look))
        if candidate is None:
            return None
        clip, holder = (part.decode() for part in candidate)
        token = uuid.uuid4().hex
        code, *rest = await ask(self._front, scripts.call(self._front.steady, self._take_call(clip, holder, token)))
        if code != 1:
            return None
        fields = dict(zip(rest[0][::2], rest[0][1::2], strict=True))
        most_bytes, keep_ms = self._front.capacity.result_limit(self._settings), round(1000 * self._settings.job_ttl_s)
        claim = ClipClaim(clip, token, most_bytes, 2 * keep_ms)
        try:
            new_clip = clip_record.read_clip(clip, fields)
        except UnreadableEntry:
            await ask(self._front, _release(self._front, claim, holder, UNREADABLE_S, is_counted=False))
            return None
        lease = RedisClipLease(self._settings, self._front, self._objects, claim, new_clip, fields)
        lease.start()
        return lease

    def _take_call(self, clip: str, holder: str, token: str) -> scripts.ScriptCall:
        keys, runs = self._front.keys, self._settings.max_deliveries
        failure = Failure("internal", f"given up after {runs} runs: whoever made the clip went away each time")
        return scripts.CLIP_TAKE.bind(
            job=keys.job(clip),
            line=keys.clip_line,
            leases=keys.clip_leases,
            served=keys.clip_served,
            results=keys.results,
            kept=keys.kept,
            hooks=keys.hooks,
            events=keys.events,
            job_id=clip,
            holder=holder,
            token=token,
            lease_ms=self._settings.lease_ms,
            most_runs=runs,
            failure=serialization.failure_bytes(failure),
            keep_ms=round(1000 * self._settings.job_ttl_s),
        )

    async def wait(self, seconds: float) -> None:
        """Return when any job moved, after `seconds` at the latest."""
        with self._watchers.watching_all() as hint:
            await hinted(hint, seconds)


class RedisClipLease:
    """`service.serving.jobs.clip_queue.ClipLease` of one clip."""

    def __init__(
        self,
        settings: Settings,
        front: QueueClient,
        objects: ClipObjects,
        claim: ClipClaim,
        clip: NewClip,
        fields: dict[bytes, bytes],
    ) -> None:
        self._settings, self._front, self._objects, self._claim = settings, front, objects, claim
        self.clip, self.lost = clip, asyncio.Event()
        self.runs, self.ranges = whole(fields.get(b"runs")), whole(fields.get(b"ranges"))
        self._body_bytes = whole(fields.get(b"body"))
        self._done, self._notes = 0, tuple[str, ...]()
        self._results = ResultStore(front.client, front.keys, objects.remove)
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew the lease."""
        # owned: by this lease, which ends it
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew until the lease is lost; where Redis does not answer it may be another's once its time is over."""
        clock = asyncio.get_running_loop().time
        renewed_at, lease_s = clock(), self._settings.lease_ms / 1000
        while True:
            await asyncio.sleep(min(1.0, lease_s / 3))
            with contextlib.suppress(*FAILED, TimeoutError):
                asked_at = clock()
                async with asyncio.timeout(lease_s):
                    if not await scripts.call(self._front.steady, self._renew_call()):
                        break
                renewed_at = asked_at
            if clock() - renewed_at > lease_s:
                break
        self.lost.set()

    def _renew_call(self) -> scripts.ScriptCall:
        keys = self._front.keys
        return scripts.CLIP_RENEW.bind(
            job=keys.job(self._claim.clip),
            leases=keys.clip_leases,
            events=keys.events,
            job_id=self._claim.clip,
            holder=self.clip.holder,
            token=self._claim.token,
            lease_ms=self._settings.lease_ms,
            done=self._done,
            notes=clip_record.notes_bytes(self._notes),
        )

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield as `ClipLease.body`."""
        try:
            async with aclosing(self._objects.get(self._claim.clip, BODY, 0, self._body_bytes)) as pieces:
                async for piece in pieces:
                    yield piece
        except LOST:
            raise self._front.unavailable() from None

    def report(self, done: int, notes: tuple[str, ...]) -> None:
        """Note as `ClipLease.report`."""
        self._done, self._notes = done, notes

    async def read_range(self, number: int) -> list[KeptPrediction]:
        """Return as `ClipLease.read_range`."""
        data = await self._ask(self._objects.get_range(self._claim.clip, number))
        try:
            return [] if data is None else await asyncio.to_thread(clip_record.read_range, data)
        except UnreadableEntry:
            return []

    async def keep_range(self, predictions: Sequence[KeptPrediction]) -> bool:
        """Keep as `ClipLease.keep_range`."""
        data = await asyncio.to_thread(clip_record.range_bytes, predictions)
        number, self.ranges = self.ranges, self.ranges + 1
        try:
            return await self._ask(self._objects.put_range(self._claim, number, data)) == 1
        except ServiceError:
            return False  # it is predicted again, should it come to that

    async def finish(self, result: ClipFile) -> None:
        """End as `ClipLease.finish`."""
        code = await self._ask(self._objects.put_result(self._claim, result))
        if code == NO_ROOM and await self._ask(self._results.make_room(result.nbytes)):
            code = await self._ask(self._objects.put_result(self._claim, result))
        if code == NO_ROOM:
            raise TooLarge("there is no room for the result; fetch or delete others", field="body")
        if code == NOT_OURS:
            raise Conflict(GONE)
        await self._end("done", b"", result.nbytes)

    async def fail(self, failure: Failure) -> None:
        """End as `ClipLease.fail`."""
        await self._end("failed", serialization.failure_bytes(failure), 0)

    async def _end(self, state: str, failure: bytes, nbytes: int) -> None:
        await self._stop()
        keys, clip, objects = self._front.keys, self._claim.clip, self._objects
        pieces = objects.pieces_of(clip, RESULT, nbytes)
        others = [*objects.pieces_of(clip, BODY, self._body_bytes), *objects.ranges_of(clip, self.ranges)]
        name = objects.object_name(self._claim)
        bound = scripts.CLIP_FINISH.bind(
            *pieces,
            *others,
            job=keys.job(clip),
            leases=keys.clip_leases,
            results=keys.results,
            kept=keys.kept,
            hooks=keys.hooks,
            events=keys.events,
            job_id=clip,
            holder=self.clip.holder,
            token=self._claim.token,
            state=state,
            failure=failure,
            done=self._done,
            notes=clip_record.notes_bytes(self._notes),
            result_bytes=nbytes,
            held_bytes=objects.held(nbytes),
            count=len(pieces),
            object=name,
            keep_ms=round(1000 * self._settings.job_ttl_s),
        )
        if await self._ask(scripts.call(self._front.client, bound)) != 1:
            raise Conflict(GONE)
        with contextlib.suppress(*FAILED, Unavailable):  # what is left goes with the clip
            await objects.trim(clip, name)

    async def give_back(self, *, is_counted: bool, delay_s: float) -> None:
        """Give back as `ClipLease.give_back`; should Redis not answer at once, the lease lapses."""
        await self._stop()
        with contextlib.suppress(*FAILED, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await _release(self._front, self._claim, self.clip.holder, delay_s, is_counted=is_counted)

    async def _stop(self) -> None:
        if self._renewing is not None:
            await end(self._renewing)

    async def _ask(self, question: Awaitable[T]) -> T:
        return await ask(self._front, question)


def _release(front: QueueClient, claim: ClipClaim, holder: str, delay_s: float, *, is_counted: bool) -> Awaitable[Any]:
    keys = front.keys
    bound = scripts.CLIP_RELEASE.bind(
        job=keys.job(claim.clip),
        leases=keys.clip_leases,
        events=keys.events,
        job_id=claim.clip,
        holder=holder,
        token=claim.token,
        delay_ms=round(1000 * delay_s),
        is_counted=int(is_counted),
    )
    return scripts.call(front.steady, bound)
