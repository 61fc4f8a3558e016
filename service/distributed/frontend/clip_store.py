"""Clips kept in Redis: accepted by any front end, told of by any other, made by whichever takes them.

Their bytes are where `ClipObjects` keeps them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

import redis

from service.core.errors import ClientLimit, Conflict, NotFound, QueueFull, Unavailable
from service.distributed.broker import clip_record, scripts
from service.distributed.broker.client import FAILED, LOST
from service.distributed.broker.clip_objects import BODY, RESULT, ClipObjects
from service.distributed.broker.keys import whole
from service.distributed.frontend.asking import ask
from service.distributed.frontend.owned import owned_records
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.frontend.results import ResultStore
from service.distributed.frontend.watchers import JobWatchers
from service.serving.jobs.clip_jobs import ClipView, NewClip
from service.serving.video.clip_disk import ClipFile
from service.settings import Settings
from service.telemetry.metrics import Metrics

T = TypeVar("T")

#: Clips in the line, of all callers and of one; and kept, finished ones included.
WAITING, WAITING_OF_ONE, MOST = 64, 16, 256
#: Part of the room for results that one caller's clips may take.
SHARE = 0.75
#: Times that room is made for one clip; others may take it first.
ROOM_TRIES = 3
#: Seconds after which a refused caller may ask again: a short clip's time.
RETRY_S = 5.0


class RedisClips:
    """`service.serving.jobs.clip_jobs.ClipJobs` over a started `QueueClient`."""

    durable = True

    def __init__(
        self, settings: Settings, front: QueueClient, objects: ClipObjects, watchers: JobWatchers, metrics: Metrics
    ) -> None:
        self._settings, self._front, self._objects = settings, front, objects
        self._watchers, self._metrics = watchers, metrics
        self._results = ResultStore(front.client, front.keys, objects.remove)

    @property
    def durability(self) -> str | None:
        """Return `ClipJobs.durability` of the server that this front end last reached."""
        return self._front.server.durability

    async def submit(self, clip: NewClip, body: ClipFile) -> tuple[ClipView, bool]:
        """Accept as `ClipJobs.submit`; once it returns, the clip is as safe as the server's disk makes any write."""
        self._front.announcements.check(clip.order.options.version)
        self._front.check_keeps_jobs()
        answer = await self._accept(clip, body.nbytes, is_question=True)
        if answer[0] == 1:
            await self._upload(clip, body)
            answer = await self._accept(clip, body.nbytes, is_question=False)
        if answer[0] == 0:
            client, fingerprint = answer[1:]
            if client.decode() != clip.client or fingerprint.decode() != clip.fingerprint:
                raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key")
            body.drop()
            return await self.get(clip.id, clip.client), False
        body.drop()
        return await self.get(clip.id, clip.client), True

    async def _upload(self, clip: NewClip, body: ClipFile) -> None:
        try:
            await self._objects.put_body(clip.id, body)
        except LOST:
            raise self._front.unavailable() from None
        except redis.exceptions.OutOfMemoryError:
            raise QueueFull("Redis has no memory left", retry_after=RETRY_S) from None

    async def _accept(self, clip: NewClip, nbytes: int, *, is_question: bool) -> list[Any]:
        """Ask CLIP_ACCEPT; fetched results make room, oldest first, before a clip is refused for it."""
        for _ in range(ROOM_TRIES):
            bound = self._accept_call(clip, nbytes, is_question=is_question)
            code, *rest = answer = await self._ask(scripts.call(self._front.client, bound))
            if code == -6 and await self._ask(self._results.make_room(int(rest[0]))):
                continue
            if code not in (-3, -4) or not await self._ask(self._drop_fetched(clip.holder if code == -3 else None)):
                break
        refusals = {
            -1: QueueFull("as many videos wait to be made as may", retry_after=RETRY_S),
            -2: ClientLimit("as many of your videos wait to be made as may", retry_after=RETRY_S),
            -3: QueueFull("your clips take as many bytes as they may; take results and delete them", retry_after=30.0),
            -4: QueueFull("as many clips are kept as may be; take results and delete them", retry_after=30.0),
            -5: Unavailable("the upload took too long", reason="queue_lost", retry_after=1.0),
            -6: QueueFull("results hold as many bytes as they may; fetch or delete some", retry_after=30.0),
        }
        if code in refusals:
            raise refusals[code]
        return list(answer)

    async def _drop_fetched(self, holder: str | None) -> bool:
        """Forget fetched clips: all of this holder's, or the oldest of any; False if there are none."""
        keys, client = self._front.keys, self._front.client
        holders = await client.hgetall(keys.clips)
        names = [name for name in await client.zrange(keys.fetched, 0, -1) if name in holders]
        if holder is not None:
            names = [name for name in names if holders[name].decode() == holder]
        for name in names if holder is not None else names[:1]:
            await self._results.forget_fetched(name.decode())
        return bool(names)

    def _accept_call(self, clip: NewClip, nbytes: int, *, is_question: bool) -> scripts.ScriptCall:
        keys, most_bytes = self._front.keys, self._front.capacity.result_limit(self._settings)
        pieces = [] if is_question else self._objects.pieces_of(clip.id, BODY, nbytes)
        return scripts.CLIP_ACCEPT.bind(
            *pieces,
            job=keys.job(clip.id),
            line=keys.clip_line,
            clips=keys.clips,
            results=keys.results,
            kept=keys.kept,
            events=keys.events,
            own=keys.owned(clip.client),
            job_id=clip.id,
            client=clip.client,
            holder=clip.holder,
            fingerprint=clip.fingerprint,
            order=clip_record.order_bytes(clip.order, clip.client),
            webhook=clip.webhook or "",
            frames=clip.frames or 0,
            file_name=clip.file_name,
            media_type=clip.order.media_type,
            body_bytes=nbytes,
            held_bytes=self._objects.held(nbytes),
            most_result_bytes=most_bytes,
            most_holder_bytes=round(SHARE * most_bytes),
            most_waiting=WAITING,
            most_waiting_of_one=WAITING_OF_ONE,
            most_clips=MOST,
            is_question=int(is_question),
        )

    async def get(self, clip: str, client: str) -> ClipView:
        """Return the view as `ClipJobs.get`; Unavailable while Redis is away."""
        return (await self._record(clip, client))[0]

    async def _record(self, clip: str, client: str) -> tuple[ClipView, dict[bytes, bytes]]:
        fields = await self._ask(self._front.client.hgetall(self._front.keys.job(clip)))
        view = clip_record.clip_view(clip, fields)
        if view is None or clip_record.text(fields, b"c") != client:
            raise NotFound("there is no such clip", field="job")
        return view, fields

    async def changed(self, seen: ClipView, client: str, seconds: float) -> ClipView:
        """Wait as `ClipJobs.changed`."""
        return await self._watchers.changed(seen, lambda: self.get(seen.id, client), seconds)

    async def of_client(self, client: str) -> list[ClipView]:
        """List as `ClipJobs.of_client`."""
        records = await owned_records(self._front, client)
        views = [clip_record.clip_view(clip, fields) for clip, fields in records]
        return [view for view in views if view is not None]

    async def pieces(self, view: ClipView, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `ClipJobs.pieces`."""
        name = await self._ask(self._front.client.hget(self._front.keys.job(view.id), "object"))
        if name is None:
            raise NotFound("the clip was deleted before it was read", field="job")
        try:
            async with aclosing(self._objects.get(view.id, name.decode() or RESULT, start, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        except LOST:
            raise self._front.unavailable() from None

    async def sent(self, view: ClipView, start: int, stop: int) -> None:
        """Note as `ClipJobs.sent`; a clip that was fetched whole may make room for others."""
        keys = self._front.keys
        bound = scripts.CLIP_SENT.bind(
            job=keys.job(view.id), fetched=keys.fetched, job_id=view.id, start=start, stop=stop
        )
        await self._ask(scripts.call(self._front.client, bound))

    async def cancel(self, clip: str, client: str) -> ClipView:
        """Stop the clip and drop all of it, as `ClipJobs.cancel`."""
        view, fields = await self._record(clip, client)
        keys, objects = self._front.keys, self._objects
        # One range more: its maker may be keeping it right now.
        pieces = objects.pieces_of(clip, BODY, whole(fields.get(b"body")))
        pieces += objects.pieces_of(clip, RESULT, view.nbytes)
        pieces += objects.ranges_of(clip, whole(fields.get(b"ranges")) + 1)
        bound = scripts.CLIP_FORGET.bind(
            *pieces,
            job=keys.job(clip),
            line=keys.clip_line,
            leases=keys.clip_leases,
            clips=keys.clips,
            results=keys.results,
            kept=keys.kept,
            fetched=keys.fetched,
            hooks=keys.hooks,
            events=keys.events,
            job_id=clip,
            holder=clip_record.text(fields, b"h"),
        )
        await self._ask(scripts.call(self._front.client, bound))
        with contextlib.suppress(*FAILED, Unavailable):  # it is forgotten all the same; the next sweep removes the rest
            await self._objects.remove(clip)
        if view.state.final:
            return view
        self._metrics.clips.ended("cancelled")
        return clip_record.cancelled(view)

    async def _ask(self, question: Awaitable[T]) -> T:
        return await ask(self._front, question)
