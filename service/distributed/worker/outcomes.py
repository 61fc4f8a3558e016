"""Carries out the decisions of `service.serving.jobs.fate` on a run.

A run ends in its answer, its error, or the item's return to the queue.

Nothing is sent to Redis of an item whose lease is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis

from service.core.errors import DeadlineExceeded, Internal, NotFound, ServiceError, TooLarge
from service.distributed.broker.blob_store import StoreUnavailable
from service.distributed.broker.client import FAILED, LOST, backoff
from service.distributed.broker.transfers import Transfers
from service.distributed.worker.claims import Claims
from service.distributed.worker.items import ClaimedWork, LeasedItem
from service.distributed.worker.leases import Lease, Leases
from service.serving.jobs.fate import Bury, HandBack, Leave, Run, RunEnd, fate
from service.serving.jobs.job import Failure
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that charging a caller may take: the answer is out, and the worker has other things to do.
CHARGE_S = 1.0
#: Seconds after an item was left to others in which its wake token may still be on its way to them.
JUST_LEFT_S = 1.0
#: Times that Redis, being there, may cut the connection over one answer before it is taken for unstorable.
CUT_TRIES = 3


class Outcomes:
    """Carries out the outcomes of one worker's items."""

    def __init__(
        self,
        settings: Settings,
        claims: Claims,
        leases: Leases,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._leases = leases
        self._metrics = metrics
        self._rng = random.Random()
        self._transfers = Transfers(clock=clock)
        self._avoided: dict[Lease, float] = {}

    def avoided(self) -> list[Lease]:
        """List items that proved too large for this device: others may take them first, for the time of a lease."""
        now = time.monotonic()
        self._avoided = {lease: expiry for lease, expiry in self._avoided.items() if expiry > now}
        return list(self._avoided)

    def passes_wake_on(self) -> bool:
        """Tell whether a wake token that this worker took was probably of an item that it has just left to others."""
        recent = time.monotonic() + self._settings.lease_ms / 1000 - JUST_LEFT_S
        return any(expiry > recent for expiry in self._avoided.values())

    async def answer(self, work: ClaimedWork, answer: bytes) -> bool:
        """Publish an answer and tell if it is the item's; one that Redis never takes becomes an error that says so."""
        item, cuts, value = work.item, 0, b""

        async def publish() -> bool | None:
            nonlocal cuts, value
            value = value or await self._claims.put_elsewhere(work, answer)
            if not await self._claims.storable(value):
                return None
            try:
                async with self._transfers.place(len(value)):
                    return await self._claims.answer(item, value)
            except redis.exceptions.ReadOnlyError:  # it takes nothing at all for now, however small
                raise
            except LOST:
                # A server cuts the connection over a value above its limit, which it need not have told.
                cuts += await self._claims.here()
                if cuts < CUT_TRIES:
                    raise
                return None
            except redis.RedisError as error:
                log.error("job %s, item %d: its answer was refused: %s", item.job, item.index, error)
                return None

        try:
            success = await self.lasting(item, publish)
        finally:
            if value and value is not answer:
                await self._claims.discard_unpublished(item, value)
        if success is None and self._leases.holds(item.lease):
            size = TooLarge(f"an answer of {len(answer)} bytes does not fit Redis", field="steps")
            await self.failed(work, size, end=RunEnd.UNSTORABLE)
        elif not success:
            self._metrics.lease_lost()
        return bool(success)

    async def with_frames(self, work: ClaimedWork) -> ClaimedWork | None:
        """Return the work with its frames, once the store has them; None where they are gone, which ends the item.

        None, too, once the item's lease is gone.
        """
        if not self._claims.may_be_elsewhere(work.item):
            return work
        try:
            return await self.lasting(work.item, lambda: self._claims.frames(work))
        except NotFound:
            failure = Failure("internal", "the frames expired before they were predicted")
            await self.lasting(work.item, lambda: self._claims.fail(work.item, failure))
            return None

    async def charge(self, client: str, flops: int) -> None:
        """Take a published answer's FLOPs from its caller's budget, unless Redis is away."""
        if client:
            with contextlib.suppress(*FAILED, TimeoutError):
                async with asyncio.timeout(CHARGE_S):
                    await self._claims.charge(client, flops)

    async def failed(
        self,
        work: ClaimedWork,
        error: ServiceError,
        *,
        alone: bool = False,
        sound: bool = False,
        end: RunEnd | None = None,
    ) -> None:
        """Carry out the fate of a run that raised `error`.

        `alone`: nothing else ran beside it; `sound`: the device had answered its probe.
        """
        item = work.item
        if item.left is None and isinstance(error, DeadlineExceeded):
            error = Internal(f"no answer within {self._settings.max_run_s:g} s")
        end = end or RunEnd.of(error)
        # While Redis is away nobody can say who else lives, and the item is still this worker's to hand back.
        others = end is not RunEnd.NO_MEMORY or bool(await self.lasting(item, self._claims.others))
        run = Run(
            end,
            item.delivery,
            self._settings.max_deliveries,
            leased=self._leases.holds(item.lease),
            alone=alone,
            sound=sound,
            losses=work.losses,
            awaited=bool(item.front),
            others=others,
        )
        match fate(run):
            case Leave():
                pass
            case Bury(reason):
                if await self.lasting(item, lambda: self._claims.bury(item, reason)):
                    self._metrics.dead_letter()
            case HandBack() as back:
                await self._hand_back(run, item, back)
            case _:
                await self.lasting(item, lambda: self._claims.fail(item, Failure.of(error)))

    async def _hand_back(self, run: Run, item: LeasedItem, back: HandBack) -> None:
        if back.elsewhere:
            self._avoided[item.lease] = time.monotonic() + self._settings.lease_ms / 1000
        if run.end in (RunEnd.DEVICE_LOST, RunEnd.UNTRIED, RunEnd.NO_MEMORY):
            where = "alone on a sound device" if run.proves else "alone" if run.alone else "in company"
            log.error("job %s, item %d, run %d, %s: %s", item.job, item.index, run.delivery, where, run.end.value)
        await self.lasting(item, lambda: self._claims.hand_back(item, back))

    async def lasting(self, item: LeasedItem, verb: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat `verb` until Redis, or the store, is there: work that is done is not thrown away for a restart.

        None once the item's lease is gone: whoever has it now says what becomes of it.
        """
        for delay in backoff(self._rng):
            if not self._leases.holds(item.lease):
                return None
            try:
                return await verb()
            except (*LOST, StoreUnavailable) as error:
                log.warning("an item waits for redis or the object store: %s", error)
                await asyncio.sleep(delay)
        raise AssertionError("backoff() never ends")
