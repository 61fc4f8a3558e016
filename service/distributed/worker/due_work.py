"""Finds whose turn it is in the queue and claims this worker's share of it.

Knows nothing of leases, or of what becomes of an item.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.keys import GROUP, SLOTS, Keys
from service.distributed.broker.submission import BEHIND_LIVE_S
from service.distributed.broker.wake_token import ExpectedCall
from service.distributed.worker.items import LeasedItem, read_item
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
    answers: list[Any] = field(default_factory=list)  #: of the commands that were sent along


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

    async def guess(self, call: ExpectedCall, most: int, *, together: int, along: Sequence[Command]) -> Claim | None:
        """Claim a call that a wake token told of, if nothing else waits, and run `along` in the same round trip.

        None where it is not to be had so: whoever asked looks for work then. For a worker that holds no items.
        """
        if self._clock() >= self._next_sweep:
            return None
        bound = self._claim_call([call.stream.encode()], most, together, 0, 0, is_guess=1)
        claims, *answers = await pipeline(self._client, [bound.command, *along])
        if isinstance(claims, Exception):
            return None
        claim = self._read(claims)
        return Claim(claim.items, claim.waiting, claim.backlog, answers) if claim.items else None

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
        self, streams: list[bytes], most: int, together: int, held_items: int, is_patient: int, is_guess: int = 0
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
            is_guess=is_guess,
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
