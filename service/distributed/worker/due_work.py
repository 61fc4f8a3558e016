"""Finds whose turn it is in the queue and claims this worker's share of it.

Knows nothing of leases, or of what becomes of an item.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio.cluster

from service.distributed.broker import scripts
from service.distributed.broker.client import FAILED, AsyncRedis, pipeline
from service.distributed.broker.keys import GROUP, SLOTS, Keys
from service.distributed.broker.submission import BEHIND_LIVE_S
from service.distributed.worker.items import ClaimedWork, LeasedItem, read_item, read_work
from service.distributed.worker.stopping import within
from service.engine.scheduling.batch_scheduler import PATIENCE_S, PATIENT_SHARE
from service.engine.scheduling.fair_shares import LEAST_TURN_S, QUANTUM_S
from service.settings import Settings

#: A worker that said it has nothing to do counts as idle for so long; one that waits for work says it again sooner.
IDLE_MS = 5000
#: Seconds between two looks for streams that are not in the index, since a front end of a release before keeps none;
#: and the least between two, where a wake token came and the index knows of nothing.
SWEEP_S, SWEEP_SOON_S = 1.0, 0.2
#: Streams looked at in one script.
SWEEP_AT_ONCE = 100
#: Bytes of the frames of a call that is begun in the exchange that claims it: the server copies them for that.
BEGUN_BYTES = 2**20
#: Seconds that a wait for work may take to end once its worker is to stop, which wakes it.
LAST_REST_S = 0.15
#: Milliseconds after which what one worker alone reads is gone, should it not live to read it.
OWN_MS = 10_000
#: A command and its arguments.
Command = tuple[str | int | bytes, ...]
#: Times that work is looked for again where another worker took what was seen.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """The claimed `items`, all of one bucket, in the order of their turns; `waiting`: at least so many wait still."""

    items: list[LeasedItem]
    waiting: int = 0
    backlog: float = 0.0  #: seconds of work of all calls queued and running, for each worker


@dataclass(frozen=True, slots=True)
class BegunCall:
    """A claimed call. `work` is None where its frames are yet to be asked for; `backlog` as of `Claim`."""

    item: LeasedItem
    work: ClaimedWork | None
    backlog: float


class DueWork:
    """The unclaimed items of one queue, for one worker. `clock` is in seconds."""

    def __init__(
        self, settings: Settings, client: AsyncRedis, worker: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._client, self._worker, self._clock = settings, client, worker, clock
        self.keys = Keys(settings.redis_queue)
        self._rng = random.Random()
        self._swept = -SWEEP_S
        self._next_sweep = self._swept

    @property
    def next_sweep(self) -> float:
        """Return when the index is to be completed next, on the clock; who waits for work must not wait longer."""
        return self._next_sweep

    async def wait(self, seconds: float) -> tuple[bytes | None, BegunCall | None]:
        """Wait for a wake token, at most `seconds`; claim and begin the call that waits, where nothing else does.

        In one exchange: what is sent behind a blocking read runs as soon as that has something. Return the token.
        """
        tokens, frames = (self.keys.wake_of(self._worker), self.keys.wake), self.keys.begun_frames(self._worker)
        if isinstance(self._client, redis.asyncio.cluster.RedisCluster):  # no pipeline there would be one exchange
            reply = await self._client.blpop(tokens, timeout=seconds)
            return None if reply is None else cast(bytes, reply[1]), None
        bound = self._begin_call()
        commands = [("BLPOP", *tokens, seconds), bound.command, ("HMGET", frames, "0", "1"), ("UNLINK", frames)]
        reply, claim, pair, _ = await pipeline(self._client, commands)
        if isinstance(claim, redis.exceptions.NoScriptError):
            # The frames were read before this claim, so they are none of its: they are asked for again.
            claim, pair = await scripts.call(self._client, bound), [None, None]
        for answer in (reply, claim, pair):
            if isinstance(answer, Exception):
                raise answer
        return None if reply is None else cast(bytes, reply[1]), None if claim is None else _read_begun(claim, pair)

    async def wake_after(self, stop: Awaitable[None]) -> None:
        """End this worker's `wait`, or the next one, once `stop` has ended, unless Redis does not answer."""
        await stop
        wake = self.keys.wake_of(self._worker)
        with contextlib.suppress(*FAILED):
            commands = [("LPUSH", wake, "stop"), ("PEXPIRE", wake, OWN_MS)]
            await within(LAST_REST_S, pipeline(self._client, commands))

    async def claim(
        self, most: int, *, together: int, held_items: int, woken: bool = False, live_only: bool = False
    ) -> Claim:
        """Claim up to `most` new items of one bucket, no more than this worker's share of what waits.

        `together`: items that its device runs at once; `held_items`: those that it runs or has ready; `woken`: by a
        token; `live_only`: leave background work.
        """
        claim = Claim([])
        for _ in range(TRIES):
            if self._clock() >= self._next_sweep:
                await self._sweep()
            look = self._look_call(held_items, live_only=live_only)
            streams, existing, is_patient = await scripts.call(self._client, look)
            if not streams:
                if woken and existing:
                    self._next_sweep = min(self._next_sweep, self._swept + SWEEP_SOON_S)
                if self._clock() < self._next_sweep:
                    return Claim([])
                continue
            bound = self._claim_call(streams, most, together, held_items, is_patient)
            claim = self._read(await scripts.call(self._client, bound))
            if claim.items or claim.waiting:
                return claim
        return claim

    @staticmethod
    def _read(answer: list[Any]) -> Claim:
        now, batches, waiting, backlog_us = answer
        items = [
            read_item(stream.decode(), entry.decode(), fields, now, 1)
            for stream, entries in batches
            for entry, fields in entries
        ]
        return Claim([item for item in items if item is not None], waiting, backlog_us / 1e6)

    def _look_call(self, held_items: int, *, live_only: bool) -> scripts.ScriptCall:
        keys = self.keys
        return scripts.LOOK.bind(
            due=keys.due,
            buckets=keys.buckets,
            idle=keys.idle,
            turns=keys.turns,
            prefix=keys.streams,
            slots=SLOTS,
            worker=self._worker,
            held=held_items,
            idle_ms=IDLE_MS,
            live_only=int(live_only),
            behind_ms=round(1000 * BEHIND_LIVE_S),
            patience_ms=round(1000 * PATIENCE_S),
        )

    def _claim_call(
        self, streams: list[bytes], most: int, together: int, held_items: int, is_patient: int
    ) -> scripts.ScriptCall:
        keys = self.keys
        return scripts.CLAIM.bind(
            *(stream.decode() for stream in streams),
            due=keys.due,
            idle=keys.idle,
            workers=keys.workers,
            turns=keys.turns,
            load=keys.load,
            group=GROUP,
            worker=self._worker,
            most_items=most,
            # As many pixels as two batches may have: one that runs, one that is ready behind it.
            most_pixels=2 * self._settings.max_batch_pixels,
            together=together,
            held=held_items,
            least_us=round(1e6 * LEAST_TURN_S),
            quantum_us=round(1e6 * QUANTUM_S),
            is_patient=is_patient,
            patient_share=repr(PATIENT_SHARE),
        )

    def _begin_call(self) -> scripts.ScriptCall:
        keys = self.keys
        return scripts.CLAIM_CALL.bind(
            due=keys.due,
            idle=keys.idle,
            workers=keys.workers,
            turns=keys.turns,
            load=keys.load,
            frames=keys.begun_frames(self._worker),
            group=GROUP,
            worker=self._worker,
            streams=keys.streams,
            jobs=keys.job(""),
            payloads=keys.payload(""),
            fronts=keys.front(""),
            most_bytes=BEGUN_BYTES,
            least_us=round(1e6 * LEAST_TURN_S),
            keep_ms=OWN_MS,
        )

    async def _sweep(self) -> None:
        """Put streams into the index that it lacks: those of front ends of a release that keeps none."""
        self._swept = self._clock()
        # Spread, or workers started together would all look at the same instant.
        self._next_sweep = self._swept + SWEEP_S * self._rng.uniform(0.8, 1.2)
        commands = [("SMEMBERS", self.keys.buckets), ("ZRANGE", self.keys.due, 0, -1)]
        existing, index = await pipeline(self._client, commands)
        missing = sorted(name.decode() for name in set(existing) - set(index))
        for start in range(0, len(missing), SWEEP_AT_ONCE):
            bound = scripts.SWEEP.bind(*missing[start : start + SWEEP_AT_ONCE], due=self.keys.due, group=GROUP)
            await scripts.call(self._client, bound)


def _read_begun(claim: list[Any], pair: list[bytes | None]) -> BegunCall | None:
    now, stream, entry, fields, backlog_us, verdict = claim
    item = read_item(stream.decode(), entry.decode(), fields, now, 1)
    if item is None:
        return None
    has_frames = verdict[0] != b"run" or None not in pair
    return BegunCall(item, read_work(item, verdict, pair) if has_frames else None, backlog_us / 1e6)
