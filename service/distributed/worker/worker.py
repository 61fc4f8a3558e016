"""Works for one queue: claims batches, has them run on the engine, and leaves nothing behind when it stops.

Any moment may be its last, so nothing is taken out of the queue before its answer is in. Its engine is what a front
end would use itself: coroutines in, batches on the device.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Sequence

from service.core.interfaces import Engine, ModelRepository, VersionState
from service.distributed.broker import announcement, buckets
from service.distributed.broker.client import (
    BLOCK_S,
    LOST,
    AsyncRedis,
    backoff,
    classify,
    close,
    connect,
    connect_sync,
    end,
    reconnect,
)
from service.distributed.broker.connection_options import explain
from service.distributed.broker.job_objects import job_objects
from service.distributed.broker.keys import Keys
from service.distributed.broker.serialization import dialect
from service.distributed.broker.server_check import ServerCheck
from service.distributed.broker.wake_token import ExpectedCall
from service.distributed.worker.claims import HANDED_BACK, UNCOUNTED, Claims, Prefetch
from service.distributed.worker.device_scheduling import DeviceScheduling
from service.distributed.worker.due_work import Claim, DueWork
from service.distributed.worker.foreign_items import ForeignItems
from service.distributed.worker.items import LeasedItem
from service.distributed.worker.lapsed_items import LapsedItems
from service.distributed.worker.leases import Lease, Leases
from service.distributed.worker.outcomes import Outcomes
from service.distributed.worker.runs import ItemRuns
from service.distributed.worker.stopping import Stopping, within
from service.settings import Settings
from service.supervision import Supervisor
from service.telemetry.metrics import Background, Metrics

log = logging.getLogger(__name__)

#: Seconds from the last answer, or the end of the grace, to the end of `run`. Handing back, saying goodbye and closing
#: connections share them: a Redis that does not answer must not hold up the end.
LEAVE_S = 0.3
#: Seconds that a claim under way may take once `stop` was called, within the grace: its items can then be handed back.
LAST_CLAIM_S = 0.5
#: Seconds after which work that was left to idle workers is looked for again.
LEFT_S = 0.05
#: Seconds that what is ready keeps the device busy while more is claimed; a load of it at least, and so many at most.
READY_S, MOST_READY = 0.03, 4
#: Items of a worker whose answers are not in, for each that its device runs at once.
UNANSWERED = 8
#: Seconds between giving a wake token on and listening for the next one: the worker it is meant for listens meanwhile.
PASS_ON_S = 0.05


class Worker:
    """`run()` until `stop()`, or until the device is lost. `engine` must batch what is submitted together."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        metrics: Metrics,
        client: AsyncRedis = None,
        name: str | None = None,
        device: DeviceScheduling | None = None,
        repository: ModelRepository | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing runs before `run`. `device`: the scheduling behind `engine`, where it has one."""
        # Unique for each life: a lease of an earlier life must not count as ours.
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._settings = settings
        self._engine = engine
        self._repository = repository
        self._metrics = metrics
        self._client = connect(settings) if client is None else client
        self._objects = job_objects(settings, self._client, Keys(settings.redis_queue), is_optional=True)
        self._claims = Claims(settings, self._client, self.name, self._objects)
        self._due_work = DueWork(settings, self._client, self.name, clock)
        self._lapsed = LapsedItems(settings, self._client, self._claims)
        self._device = device
        self._foreign = ForeignItems(
            settings, self._client, self._claims, self.name, clock, lambda: dialect(self._versions(), self._store())
        )
        self._supervisor = Supervisor(metrics, clock)
        self.server = ServerCheck(settings.redis_queue)
        self._lease_s = settings.lease_ms / 1000
        self._rng = random.Random()
        self._stopping = Stopping()
        self._leases = Leases(
            connect_sync(settings),
            self._claims.keys,
            self.name,
            lease_s=self._lease_s,
            longest_s=settings.max_run_s,
            about=lambda: self._about(),
            lost=self._lease_is_lost,
            failed=lambda error: self._supervisor.failed(Background.WORKER_LEASES, error),
        )
        self._outcomes = Outcomes(settings, self._claims, self._leases, metrics, clock)
        self._runs = ItemRuns(settings, engine, self._claims, self._foreign, self._outcomes, self._leases, metrics)
        self._claims.held = lambda: self._runs.held
        self._next_look = 0.0
        self._lapsed_turn, self._woken = True, False  #: woken: by a token of something that was handed back
        self._token: bytes | None = None  #: that the last rest ended with
        self._has_lapsed = False  #: the last look found something that lapsed, so there may be more

    @property
    def stopping(self) -> bool:
        """Tell whether `stop` was called."""
        return bool(self._stopping)

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is claimed is answered, or handed back after the grace."""
        self._stopping.set()

    async def run(self) -> bool:
        """Run until `stop`; False if the device was lost: the process should end, and another take its place."""
        self._loop = asyncio.get_running_loop()
        self._leases.beat()
        self._leases.start()
        chores = [
            self._supervisor.loop(Background.WORKER_BEAT, self._beat),
            self._supervisor.loop(
                Background.WORKER_WITHDRAWALS, lambda: self._claims.hear_withdrawals(self._runs.withdraw, self._rng)
            ),
        ]
        if self._objects is not None:
            chores.append(self._supervisor.once(Background.WORKER_STORE, self._objects.prove()))
        try:
            sound = await self._work()
            await self._drain()
        finally:
            self._leases.stop()
            await end(*chores)
            await within(LEAVE_S / 10, close(self._client))
        return sound

    async def _work(self) -> bool:
        delays = backoff(self._rng)
        while not self._stopping:
            if not (ready := self._engine.readiness()).ready:
                if ready.reason == "device_lost":
                    log.error("the device is lost; leaving")
                    return False
                await self._stopping.unless(asyncio.sleep(0.2))
                continue
            try:
                if self.server.is_due:
                    await self._stopping.unless(self.server.look(self._client))
                await self._stopping.unless(self._turn(), min(LAST_CLAIM_S, self._settings.shutdown_grace_s))
                delays = backoff(self._rng)
            except Exception as error:
                if isinstance(failure := classify(error), LOST):
                    log.warning("redis is away: %s", explain(failure))
                    self.server.away()
                    await reconnect(self._client)
                else:
                    self._supervisor.failed(Background.WORKER_CLAIMS, error)
                await self._stopping.unless(asyncio.sleep(next(delays)))
        return True

    async def _turn(self) -> None:
        """Do one turn: lapsed work, then new work, then a rest until there is some."""
        # By turns: a crash leaves many to be run one by one, and live calls must not wait for all of them.
        lapsed_turn, self._lapsed_turn = self._lapsed_turn, True
        if lapsed_turn and time.monotonic() >= self._next_look:
            # Spread, or workers started together would all look at the same instant.
            self._next_look = time.monotonic() + self._lease_s / 2 * self._rng.uniform(0.8, 1.2)
            skip = [*self._runs.leases, *self._foreign.leases, *self._outcomes.avoided()]
            item = await self._lapsed.take(skip, self._foreign.covers)
            self._has_lapsed = item is not None
            if item is not None:
                self._next_look = 0.0
                self._lapsed_turn = False
                self._metrics.redelivered(handed_back=item.was_handed_back)
                await self._run_lapsed(item)
                return
            await self._foreign.settle()
            if self._woken and (self._foreign.passes_wake_on() or self._outcomes.passes_wake_on()):
                await self._claims.wake_another()
                await asyncio.sleep(PASS_ON_S)
            self._woken = False
        # As many as run, and so many ready behind them that the device need not wait for Redis.
        together = self._settings.max_batch
        if self._device is not None:
            together = max(1, min(together, self._device.device_rows))
        held_items = self._runs.held
        ready = min(MOST_READY, max(1, math.ceil(READY_S / self._runs.device_seconds)))
        room = min((1 + ready) * together - held_items, UNANSWERED * together - len(self._runs))
        if room <= 0:
            # Nothing may be awaited in between: what ends meanwhile would not end this wait.
            await self._stopping.unless(self._runs.next_end())
            return
        claim, prefetch = await self._claim(room, together, held_items)
        if self._device is not None:
            self._device.set_backlog(claim.backlog)
        if claim.items:
            await self._start(claim.items, prefetch)
            if prefetch is not None and not claim.waiting:
                # What is submitted from now on leaves a token: there is nothing to look for.
                await self._rest()
        elif claim.waiting:
            # Left to others that have nothing to do, until this device has less; should they not take it, it is seen.
            if self._runs.held >= held_items:
                await self._stopping.unless(within(LEFT_S, self._runs.next_end()))
        else:
            await self._rest()

    async def _claim(self, room: int, together: int, held_items: int) -> tuple[Claim, Prefetch | None]:
        """Claim new work, by what the last wake token said where nothing else is held or waits."""
        token, self._token = self._token, None
        call = None if held_items or self._has_lapsed else ExpectedCall.read(token)
        if call is not None:
            guess = await self._due_work.guess(call, room, together=together, along=self._claims.begin_along(call))
            if guess is not None:
                return guess, (call, guess.answers)
        # What lapsed runs before other jobs, which are younger; each of those would keep it waiting to be alone, and
        # the calls behind it.
        claim = await self._due_work.claim(
            room, together=together, held_items=held_items, woken=token is not None, live_only=self._has_lapsed
        )
        return claim, None

    async def _rest(self) -> None:
        """Wait for a wake token, until the next look for what lapsed, or for what the index lacks, is due."""
        seconds = min(self._next_look, self._due_work.next_sweep) - time.monotonic()
        if seconds > 0:
            await self._stopping.unless(self._wait_for_token(max(0.05, min(BLOCK_S, seconds))))

    async def _wait_for_token(self, seconds: float) -> None:
        self._token = await self._claims.wait(seconds)
        if self._token == HANDED_BACK:
            self._next_look, self._woken = 0.0, True

    async def _run_lapsed(self, item: LeasedItem) -> None:
        """Run an item that may have killed its worker alone, with no neighbours to take along.

        One that a worker gave up in good order, its first delivery not held against it, needs no more than room.
        """
        self._leases.hold(item.lease)
        if item.delivery <= 1 and len(self._runs) < 2 * self._settings.max_batch:
            await self._start([item])
            return
        await self._stopping.unless(self._runs.all_ended())
        if self._stopping:
            self._leases.drop(item.lease)
            await self._claims.hand_back(item, UNCOUNTED)
            return
        if self._leases.holds(item.lease):
            await self._start([item])
        await self._stopping.unless(self._runs.all_ended())

    async def _start(self, items: list[LeasedItem], prefetch: Prefetch | None = None) -> None:
        for item in items:
            self._leases.hold(item.lease)
        self._runs.expect(items)
        try:
            works = await self._claims.begin(items, prefetch)
        except BaseException:
            # Unread: not held, so they lapse and come back. Nothing was tried, and Redis may be away: no more to do.
            self._runs.give_up(items)
            for item in items:
                self._leases.drop(item.lease)
            raise
        self._metrics.claimed(buckets.label_of(items[0].stream), len(items))
        self._runs.start(works)

    async def _drain(self) -> None:
        """Answer what runs, until the grace since `stop` is over; hand the rest back, all at once, and say goodbye."""
        stop_time = self._stopping.since if self._stopping else time.monotonic()
        if tasks := self._runs.tasks:
            await asyncio.wait(tasks, timeout=max(0.0, stop_time + self._settings.shutdown_grace_s - time.monotonic()))
        # At once: a thread that waits for a silent Redis takes as long as the round trip that hands back.
        self._leases.stop()
        await asyncio.gather(self._hand_back_rest(), asyncio.to_thread(self._leases.join, LEAVE_S))

    async def _hand_back_rest(self) -> None:
        if not (rest := self._runs.items):
            return
        await end(*self._runs.tasks)
        problem: object = "redis did not answer in time"
        try:
            if await within(LEAVE_S, self._claims.hand_back_all(rest)):
                return
        except LOST as error:
            problem = error
        log.warning("%d items are left to their leases: %s", len(rest), problem)

    def _lease_is_lost(self, lease: Lease) -> None:  # in the leases' thread
        self._loop.call_soon_threadsafe(self._runs.lease_is_lost, lease)

    # --- what others see ------------------------------------------------------------------------------------------

    def _about(self) -> bytes | None:
        if not self._engine.readiness().ready:
            return None
        model, price, repository = self._engine.model(), self._runs.price.seconds_per_megapixel, self._repository
        costs = None if self._device is None else self._device.costs()
        is_named = repository is not None and repository.is_named
        return announcement.info_bytes(
            model,
            price,
            costs,
            versions=self._versions(),
            is_named=is_named,
            lease_ms=self._settings.lease_ms,
            store=self._store(),
        )

    def _versions(self) -> Sequence[str]:
        """List the versions of the weights that are loaded, the default first."""
        if self._repository is None:
            return (self._engine.model().version,)
        return [status.name for status in self._repository.loaded() if status.state is VersionState.READY]

    def _store(self) -> str:
        return "" if self._objects is None else self._objects.proven_name

    # --- chores ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._leases.beat()
            await asyncio.sleep(self._lease_s / 6)
