"""A front end's link to the queue: submits, hears of answers, and observes the queue and its workers.

Three tasks. The pulse says once a second that this front end lives; the listener holds the one blocking connection of
this process; the third looks at the queue. Knows nothing of what is predicted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from service.core.bucket import Bucket
from service.core.errors import QueueFull, TooLarge, Unavailable
from service.core.interfaces import Readiness, ServedModel
from service.core.types import Method, Options
from service.distributed.broker import scripts
from service.distributed.broker.capacity import Capacity, capacity
from service.distributed.broker.client import (
    FAILED,
    LOST,
    STEADY_CONNECTIONS,
    AsyncRedis,
    backoff,
    classify,
    close,
    connect,
    end,
    pipeline,
    reconnect,
)
from service.distributed.broker.clock import now_ms
from service.distributed.broker.connection_options import explain
from service.distributed.broker.keys import Keys
from service.distributed.broker.server_check import ASK_AGAIN_S, ServerCheck
from service.distributed.broker.submission import (
    Duplicate,
    Submission,
    cancel_call,
    check_size,
    refusal,
    retry_after,
    submit_call,
)
from service.distributed.broker.transfers import Transfers
from service.distributed.frontend.announcements import Announcements
from service.distributed.frontend.listener import listen
from service.distributed.frontend.queue_stats import QueueStats, look
from service.distributed.frontend.stream_ages import StreamAges
from service.engine.scheduling.pricing import PriceRange
from service.settings import Settings
from service.supervision import Supervisor
from service.telemetry.metrics import Background, Metrics

log = logging.getLogger(__name__)

#: An upload whose submission needs another try (the server had not known the script) and never gets it is gone then.
UPLOAD_MS = 10_000
#: A front end silent for this long is dead: calls it made are dropped unrun.
FRONT_MS = 10_000
PULSE_S = 1.0
#: Between two looks at Redis while it is away or this process starts, seconds.
SOON_S = 0.02
#: Seconds that the end of a front end waits for Redis, for withdrawals and then for its goodbye.
LEAVE_S = 1.0
#: Times that an upload is sent over a link on which it takes longer than a connection may be silent.
UPLOAD_TRIES = 3


@dataclass
class QueueClient:
    """`start` it once; `replies` and `events` are called with the ids of calls answered and of jobs that moved.

    `beat` is awaited with every look at the queue, before readiness returns. `client` is for what is large, `steady`
    for what must not wait behind it.
    """

    settings: Settings
    metrics: Metrics = field(default_factory=Metrics.unseen)
    replies: Callable[[list[str]], None] = lambda ids: None
    events: Callable[[list[str]], None] = lambda ids: None
    lost: Callable[[], None] = lambda: None
    beat: Callable[[], Awaitable[None]] | None = None
    client: AsyncRedis = None
    steady: AsyncRedis = None
    clock: Callable[[], float] = time.monotonic
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    snapshot: QueueStats = field(default_factory=QueueStats)
    capacity: Capacity = field(default_factory=Capacity)
    seen: asyncio.Event = field(default_factory=asyncio.Event)  #: set once ready for the first time
    _model: ServedModel | None = None
    _away: bool = True
    _is_logged: bool = False  #: the log says already that Redis is away
    _pulsed: float = -math.inf  #: when the last sign of life that was written was sent
    announcements: Announcements = field(default_factory=Announcements)
    _ages: StreamAges = field(default_factory=StreamAges)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings.redis_queue)
        self.server = ServerCheck(self.settings.redis_queue)
        if self.client is None:
            self.client = connect(self.settings)
        if self.steady is None:
            self.steady = connect(self.settings, STEADY_CONNECTIONS)
        self._uploads = Transfers(clock=self.clock)
        self._withdrawals = asyncio.Semaphore(STEADY_CONNECTIONS // 2)  # the pulse must find a free connection
        self.supervisor = Supervisor(self.metrics, self.clock)

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen and to pulse; does not wait for Redis: readiness tells."""
        self._tasks = [
            self.supervisor.loop(Background.REDIS_PULSE, lambda: self._while_away(self._live, decides=True)),
            self.supervisor.loop(Background.REDIS_LISTENER, lambda: self._while_away(self._listen)),
            self.supervisor.loop(Background.REDIS_LOOK, lambda: self._while_away(self._observe)),
        ]

    async def stop(self) -> None:
        """Remove this front end's keys and close its connections; calls still waiting are the caller's to end first."""
        await end(*self._tasks)
        with contextlib.suppress(*FAILED, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.steady.unlink(self.keys.front(self.name), self.keys.reply(self.name))
        await close(self.client)
        await close(self.steady)

    def readiness(self) -> Readiness:
        """Return not ready while Redis is away, and before our sign of life lapses: workers drop our calls then.

        Without workers it stays: what is queued is what calls for more of them.
        """
        if self._away:
            return Readiness(False, "queue_lost")
        if not self._lives():
            return Readiness(False, "pulse_lost")
        state = Readiness(True) if self._model else Readiness(False, "starting")
        return replace(state, warnings=self.server.warnings)

    @property
    def is_away(self) -> bool:
        """Tell whether Redis did not answer when it was last asked."""
        return self._away

    def model(self) -> ServedModel:
        """Return the model that the workers serve, as the last of them announced."""
        if self._model is None:
            raise Unavailable("no worker has ever served this queue", reason="starting", retry_after=5.0)
        return self._model

    def price(self, bucket: Bucket, options: Options) -> PriceRange:
        """Predict the seconds of one prediction by what workers' runs have cost, also when the last worker is gone."""
        default = Method.DMVFN if self._model is None else self._model.default_method
        return self.snapshot.prices.price(bucket, options, default)

    def unavailable(self) -> Unavailable:
        """Build the error for callers while Redis is away."""
        return Unavailable("the queue cannot be reached", reason="queue_lost", retry_after=2.0)

    def check_keeps_jobs(self) -> None:
        """Raise Unavailable where the server may evict what it was given: a job would be gone, and nobody told."""
        if self.server.evicts_jobs:
            message = "jobs are not accepted: Redis may evict them; its maxmemory-policy has to be noeviction"
            raise Unavailable(message, reason="eviction", retry_after=ASK_AGAIN_S)

    # --- verbs ----------------------------------------------------------------------------------------------------

    async def submit(self, s: Submission) -> int | Duplicate:
        """Submit; return when it was accepted, the queue's time in milliseconds, or the job that has its id already.

        Raise QueueFull, TooLarge, DeadlineExceeded, or Unavailable while Redis is away.
        """
        arrival = self.clock()
        async with self._uploads.place(sum(map(len, s.frames.values()))):
            return await self._submit(s, arrival)

    async def _submit(self, s: Submission, arrival: float) -> int | Duplicate:
        if s.items > self.settings.max_queue_items:
            raise TooLarge(f"at most {self.settings.max_queue_items} predictions fit the queue", field="frames")
        if self._away:
            raise self.unavailable()
        check_size(s, self.settings, self.capacity)
        for tries_left in reversed(range(UPLOAD_TRIES)):
            token = uuid.uuid4().hex
            payload = self.keys.payload(token)
            # The deadline runs while others upload, and while a try times out.
            left = s if s.deadline is None else replace(s, deadline=s.deadline - (self.clock() - arrival))
            front, workers = (self.name if s.waits else ""), self.snapshot.workers
            bound = submit_call(self.keys, left, token, front, self.settings, self.capacity, workers)
            try:
                code, *rest = await self._upload(payload, s.frames, bound)
                break
            except redis.exceptions.OutOfMemoryError:
                wait = retry_after(self.snapshot.wait, self._rng)
                raise QueueFull("Redis has no memory left", retry_after=wait) from None
            except LOST as error:
                # The id is the idempotency: what was accepted though its answer came too late is found there.
                if not isinstance(error, redis.TimeoutError) or not tries_left or self._away:
                    raise self.unavailable() from None
        if code == 1:
            return int(rest[0])
        await self._discard(payload)
        if code == 0:
            return Duplicate(*(field.decode() for field in rest))
        if code == -4:
            raise Unavailable("the upload took too long", reason="queue_lost", retry_after=1.0)
        raise refusal(code, int(rest[0]) if rest else 0, self.settings, self.snapshot.workers, self._rng)

    async def _upload(self, payload: str, frames: Mapping[int, bytes], submit: scripts.ScriptCall) -> list[Any]:
        # All or nothing: a front end that dies in the middle of an upload leaves nothing behind.
        words = [word for number, frame in frames.items() for word in (str(number), frame)]
        commands = [("HSET", payload, *words), ("PEXPIRE", payload, UPLOAD_MS), submit.command]
        *replies, answer = await pipeline(self.client, commands, atomic=True)
        for step in replies:
            if isinstance(step, Exception):
                await self._discard(payload)
                raise classify(step)
        if isinstance(answer, redis.exceptions.NoScriptError):
            answer = await scripts.call(self.client, submit)
        if isinstance(answer, Exception):
            raise classify(answer)
        return list(answer)

    async def _discard(self, payload: str) -> None:
        with contextlib.suppress(*FAILED):  # then its time runs out
            await self.client.unlink(payload)

    async def withdraw(self, job: str, *, keep: float, tell: bool) -> str | None:
        """Cancel a job that is not final yet; return the state it then has, None if it is unknown."""
        async with self._withdrawals:
            bound = await cancel_call(self.steady, self.keys, job, keep=keep, tell=tell)
            state = await scripts.call(self.steady, bound)
        return None if state is None else state.decode()

    async def _while_away(self, work: Callable[[], Awaitable[None]], *, decides: bool = False) -> None:
        """Run `work`, again whenever Redis comes back; what is no loss of Redis is the supervisor's.

        A connection that is cut is a loss. One on which nothing came for long is, where its work `decides` it: on a
        link that is full the others are slow, too, and the sign of life, one small command, is answered.
        """
        delays = backoff(self._rng)
        while True:
            try:
                await work()
                delays = backoff(self._rng)
            except FAILED as error:
                if isinstance(error, redis.TimeoutError) and not decides and not self._away and self._lives():
                    log.info("redis is slow: %s", error)
                    await asyncio.sleep(next(delays))
                    continue
                if not self._is_logged:
                    log.warning("redis is away: %s", explain(error))
                    self._is_logged = True
                self.server.away()
                if not self._away:
                    self._away, self._pulsed = True, -math.inf
                    self.lost()
                await asyncio.gather(reconnect(self.client), reconnect(self.steady))
                await asyncio.sleep(next(delays))

    async def _listen(self) -> None:
        # Whom to tell is looked up each time: who takes `events` may come after the start.
        callbacks = (lambda ids: self.replies(ids), lambda ids: self.events(ids))
        await listen(self.steady, self.keys.reply(self.name), self.keys.events, *callbacks)

    async def _live(self) -> None:
        """Say once a second that this front end lives. One round trip, that nothing else holds up."""
        while True:
            # Not SET, which a full server refuses: without this sign of life every call of ours is dropped.
            pulse_time = self.clock()
            life = scripts.KEEP.bind(place=self.keys.front(self.name), value=b"1", ttl_ms=FRONT_MS)
            await scripts.call(self.steady, life)
            self._pulsed = pulse_time
            await asyncio.sleep(PULSE_S)

    async def _observe(self) -> None:
        while True:
            was_away = self._away  # else `beat` may have run before the loss, whose calls it withdraws
            await self._look()
            if self.beat is not None:
                await self.beat()
            await self.server.look(self.steady)
            if was_away and self._lives():
                self.capacity = await capacity(self.steady)
                log.info("redis is here")
                self._away = self._is_logged = False
                self.events([])
            if self._model is not None and not self._away:
                self.seen.set()
            # A process that starts waits for its first sign of life to be answered, not for a second.
            await asyncio.sleep(SOON_S if self._away else PULSE_S)

    def _lives(self) -> bool:
        """Tell whether workers are sure to see that this front end lives, with time to spare."""
        return self.clock() - self._pulsed <= FRONT_MS / 2000

    async def _look(self) -> None:
        self.snapshot, model = await look(self.steady, self.keys, self.announcements, self._ages, await self.now_ms())
        if model is not None and model != self._model:
            if self._model is not None:
                self.metrics.model_gone(**_labels(self._model))
            self.metrics.model(**_labels(model))
            self._model = model

    async def now_ms(self) -> int:
        """Read the queue's clock, milliseconds."""
        return await now_ms(self.steady, self.keys)

    def gauges(self) -> list[tuple[str, str, dict[str, str], float]]:
        """Return the queue's series for `Metrics.watch`."""
        return self.snapshot.gauges(self.settings.redis_queue, is_up=not self._away)


def _labels(model: ServedModel) -> dict[str, str]:
    return {"version": model.version, "sha256": model.sha256, "device": model.device, "dtype": model.dtype}
