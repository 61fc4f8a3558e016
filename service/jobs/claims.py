"""What a worker does to items in Redis: claim a batch, take over a lapsed one, end or hand back each.

Knows nothing of predicting, leases' renewal or of how many at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from service.core.job import Failure
from service.jobs import endings, scripts, wire
from service.jobs.capacity import LEAST_BULK, capacity
from service.jobs.connect import FAILED, AsyncRedis, many
from service.jobs.keys import GROUP, Keys
from service.jobs.leases import Lease
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed entry. `left`: seconds to its deadline at the time of the claim; `delivery` counts from 1."""

    stream: str
    entry: str
    job: str
    index: int
    payload: str
    front: str
    left: float | None
    delivery: int

    @property
    def lease(self) -> Lease:
        """What is renewed."""
        return self.stream, self.entry


@dataclass(frozen=True, slots=True)
class Work:
    """An item and what the worker is to do with it: `verdict` is run, gone, done, orphan or lost (no frames)."""

    item: Item
    verdict: str
    task: bytes = b""
    previous: bytes = b""
    current: bytes = b""
    losses: int = 0  #: devices lost while the item ran alone


class Claims:
    """The verbs of one worker, over a client of its own."""

    def __init__(self, settings: Settings, client: AsyncRedis, worker: str) -> None:
        self._settings = settings
        self._client = client
        self._worker = worker
        self.keys = Keys(settings.redis_queue)

    async def wait(self, seconds: float) -> bool:
        """Until work is submitted or handed back, at most `seconds`; whether it was handed back."""
        token = await self._client.blpop([self.keys.wake], timeout=seconds)
        return token is not None and token[1] == b"back"

    async def claim(self, most: int) -> list[Item]:
        """Up to `most` new items of one bucket; [] if there are none."""
        streams = await self._streams()
        if not streams:
            return []
        now, taken = await scripts.call(self._client, scripts.CLAIM, streams, self._claim_args(most))
        return [
            _item(stream.decode(), entry.decode(), fields, now, 1)
            for stream, entries in taken
            for entry, fields in entries
        ]

    def _claim_args(self, most: int) -> list[str | int | bytes]:
        # As many pixels as two batches may have: one that runs, one that is ready behind it.
        return [GROUP, self._worker, most, 2 * self._settings.max_batch_pixels]

    async def lapsed(self, held: Iterable[Lease]) -> Item | None:
        """One item whose worker fell silent, now this worker's; items delivered too often are buried on the way."""
        mine = set(held)
        for stream in await self._streams():
            try:
                found = await self._client.xpending_range(
                    stream, GROUP, "-", "+", 8 + len(mine), idle=self._settings.lease_ms
                )
            except redis.ResponseError:
                continue  # the stream went with its last item
            for row in found:
                entry = row["message_id"].decode()
                if (stream, entry) in mine:
                    continue  # still running here: Redis was away for longer than a lease
                item = await self._take_over(stream, entry, row["times_delivered"])
                if item is not None:
                    return item
        return None

    async def _take_over(self, stream: str, entry: str, deliveries: int) -> Item | None:
        rows = await self._client.xrange(stream, entry, entry)
        if not rows:
            await self._client.xack(stream, GROUP, entry)
            return None
        seconds, micros = await self._client.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        item = _item(stream, entry, [x for pair in rows[0][1].items() for x in pair], now, deliveries + 1)
        if deliveries >= self._settings.max_deliveries:
            reason = f"given up: {deliveries} runs ended with the worker's death or an internal error"
            await self.bury(item, reason)
            return None
        # The minimum idle time makes this a race that one worker wins.
        won = await self._client.xclaim(stream, GROUP, self._worker, self._settings.lease_ms, [entry])
        return item if won else None

    async def begin(self, items: list[Item]) -> list[Work]:
        """What to do with each, and its frames, in one round trip."""
        commands: list[tuple[str | int, ...]] = []
        for item in items:
            names = [self.keys.job(item.job), self.keys.front(item.front)]
            commands.append(("EVALSHA", scripts.BEGIN.sha, 2, *names, item.index, int(bool(item.front))))
            commands.append(("HMGET", self.keys.payload(item.payload), str(item.index), str(item.index + 1)))
        found = await many(self._client, commands)
        works = []
        for k, item in enumerate(items):
            begun, frames = found[2 * k], found[2 * k + 1]
            if isinstance(begun, redis.exceptions.NoScriptError):
                names = [self.keys.job(item.job), self.keys.front(item.front)]
                begun = await scripts.call(self._client, scripts.BEGIN, names, [item.index, int(bool(item.front))])
            for step in (begun, frames):
                if isinstance(step, Exception):
                    raise step
            verdict = begun[0].decode()
            if verdict != "run":
                works.append(Work(item, verdict))
            elif None in frames:
                works.append(Work(item, "lost"))
            else:
                previous, current = frames
                works.append(Work(item, verdict, begun[1], previous, current, losses=begun[2]))
        return works

    async def answer(self, item: Item, result: bytes) -> bool:
        """Publishes it if the lease is still this worker's; False if another has it."""
        attempt = self.keys.attempt(item.job, item.index, self._worker)
        life_ms = 4 * self._settings.lease_ms
        names, args = self._settle(item, "ok")
        for _ in range(3):
            store = ("SET", attempt, result, "PX", life_ms)
            settle = ("EVALSHA", endings.SETTLE.sha, len(names), *names, *args)
            kept, settled = await many(self._client, [store, settle])
            if isinstance(kept, redis.exceptions.OutOfMemoryError):
                await scripts.call(self._client, scripts.KEEP, [attempt], [result, life_ms])
                settled = await scripts.call(self._client, endings.SETTLE, names, args)
            elif isinstance(kept, Exception):
                raise kept
            if isinstance(settled, redis.exceptions.NoScriptError):
                settled = await scripts.call(self._client, endings.SETTLE, names, args)
            if isinstance(settled, Exception):
                raise settled
            if settled[0] == 0:
                await self._client.unlink(attempt)
            if settled[0] == 1:
                await self._trim(item, settled)
            if settled[0] != -1:
                return bool(settled[0] == 1)
        raise redis.ConnectionError("an attempt vanished before it was published")  # stopped for 4 leases, three times

    async def fail(self, item: Item, failure: Failure) -> bool:
        """Ends it with an error; False if another worker has it."""
        return await self._end(item, "fail", failure)

    async def storable(self, result: bytes) -> bool:
        """Whether Redis takes a value of this size."""
        return len(result) < LEAST_BULK or len(result) <= (await capacity(self._client)).bulk

    async def here(self) -> bool:
        """Whether Redis answers at all."""
        try:
            return bool(await self._client.ping())
        except FAILED:
            return False

    async def others(self) -> bool:
        """Whether another worker lives."""
        now = await self._client.time()
        names = await self._client.zrangebyscore(self.keys.workers, int(now[0]) * 1000, "+inf")
        return any(name.decode() != self._worker for name in names)

    async def _trim(self, item: Item, settled: list[Any]) -> None:
        """What a job of several items keeps once it has ended: each answer for as long as its state, or none."""
        _, state, items, kept_ms = settled
        if items < 2 or item.front or state == b"running":
            return
        outs = [self.keys.out(item.job, k) for k in range(items)]
        if state == b"done":
            await many(self._client, [("PEXPIRE", out, kept_ms) for out in outs])
        else:
            await self._client.unlink(*outs)

    async def drop(self, item: Item) -> bool:
        """Ends an item that nobody waits for."""
        return await self._end(item, "drop", None)

    async def bury(self, item: Item, reason: str) -> bool:
        """Ends it with `reason` as its error and keeps a dead letter."""
        buried = await self._end(item, "bury", Failure("internal", reason))
        if buried:
            log.error("job %s, item %d: %s", item.job, item.index, reason)
        return buried

    async def _end(self, item: Item, how: str, failure: Failure | None) -> bool:
        names, args = self._settle(item, how, b"" if failure is None else wire.failure_bytes(failure))
        settled = await scripts.call(self._client, endings.SETTLE, names, args)
        if settled[0] == 1 and failure is not None:
            await self._trim(item, settled)
        return bool(settled[0])

    async def hand_back(self, item: Item, *, counts: bool, loss: bool = False) -> bool:
        """For others to take at once; `counts`: this run is held against the item; `loss`: and a lost device, too."""
        names = [item.stream, self.keys.wake, self.keys.job(item.job)]
        args: list[str | int | bytes] = [GROUP, item.entry, self._worker, self._settings.lease_ms, int(counts)]
        args.append(item.index if loss else "")
        return bool(await scripts.call(self._client, scripts.HAND_BACK, names, args))

    def _settle(self, item: Item, how: str, failure: bytes = b"") -> tuple[list[str], list[str | int | bytes]]:
        k = self.keys
        names = [item.stream, k.job(item.job), k.payload(item.payload), k.load]
        names += [k.attempt(item.job, item.index, self._worker), k.out(item.job, item.index), k.reply(item.front)]
        names += [k.events, k.buckets, k.hooks, k.dead, k.clients, k.results, k.kept]
        args: list[str | int | bytes] = [GROUP, item.entry, self._worker, item.job, item.index, how, failure]
        args += [self._settings.lease_ms, self._settings.max_deliveries]
        args += [round(1000 * self._settings.dead_letter_ttl_s)]
        return names, args

    async def _streams(self) -> list[str]:
        return sorted(stream.decode() for stream in await self._client.smembers(self.keys.buckets))

    async def withdrawn(self, since: bytes | None, block_s: float) -> tuple[bytes, list[str]]:
        """Jobs cancelled after `since` (None: from now on), waiting up to `block_s`; and where to go on."""
        if since is None:
            newest = await self._client.xrevrange(self.keys.cancels, count=1)
            since = newest[0][0] if newest else b"0-0"
        heard = await self._client.xread({self.keys.cancels: since}, block=round(1000 * block_s))
        if not heard:
            return since, []
        rows = heard[0][1]
        return rows[-1][0], [fields[b"j"].decode() for _, fields in rows]


def _item(stream: str, entry: str, flat: list[bytes], now: int, delivery: int) -> Item:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    deadline = int(fields[b"x"])
    return Item(
        stream=stream,
        entry=entry,
        job=fields[b"j"].decode(),
        index=int(fields[b"k"]),
        payload=fields[b"p"].decode(),
        front=fields[b"f"].decode(),
        left=(deadline - now) / 1000 if deadline else None,
        delivery=delivery,
    )
