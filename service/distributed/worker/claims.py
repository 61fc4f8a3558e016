"""Moves a worker's items in Redis, and their bytes elsewhere: take over an idle one, begin, end or hand back each.

Knows nothing of predicting, leases' renewal or of what to claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis

from service.distributed.broker import scripts, serialization
from service.distributed.broker.capacity import LEAST_BULK, capacity
from service.distributed.broker.client import BLOCK_S, FAILED, LOST, AsyncRedis, backoff, classify, pipeline
from service.distributed.broker.clock import now_ms
from service.distributed.broker.job_objects import FRAME, RESULT, JobObjects
from service.distributed.broker.keys import GROUP, Keys
from service.distributed.broker.wake_token import ExpectedCall
from service.distributed.worker.due_work import IDLE_MS, Command
from service.distributed.worker.items import ClaimedWork, LeasedItem, read_work
from service.serving.jobs.fate import HandBack
from service.serving.jobs.job import Failure
from service.settings import Settings

log = logging.getLogger(__name__)

#: A call whose verdict, task and frames were asked for with its claim, and what was answered.
Prefetch = tuple[ExpectedCall, list[Any]]
#: The wake token of work that was handed back; others are of work that was submitted.
HANDED_BACK = b"back"
#: The idle time of an item that was handed back, a day: longer than any worker's leases last.
HANDED_BACK_MS = 86_400_000
#: Seconds until withdrawals are listened for again, at most and spread: what runs meanwhile may run for nobody.
HEAR_AGAIN_S = 1.0
#: The return of an item that was not run, or whose worker leaves.
UNCOUNTED = HandBack(counted=False)


class Claims:
    """Takes over, ends and hands back items for one worker, over a client of its own. `objects`: the store, if any."""

    def __init__(self, settings: Settings, client: AsyncRedis, worker: str, objects: JobObjects | None = None) -> None:
        self._settings = settings
        self._client = client
        self._worker = worker
        self._objects = objects
        self.keys = Keys(settings.redis_queue)
        #: Counts the items on this worker's device: who ends the last one is idle.
        self.held: Callable[[], int] = lambda: 1

    async def wait(self, seconds: float) -> bytes | None:
        """Wait until work is submitted or handed back (HANDED_BACK), at most `seconds`; return its token, or None."""
        reply = await self._client.blpop([self.keys.wake], timeout=seconds)
        return None if reply is None else bytes(reply[1])

    async def take_idle(self, item: LeasedItem) -> bool:
        """Try to take an item; true if this worker has it now. The minimum idle time lets one worker win the race."""
        settings = self._settings
        return bool(await self._client.xclaim(item.stream, GROUP, self._worker, settings.lease_ms, [item.entry]))

    async def live_workers(self) -> list[str]:
        """List the names of workers whose sign of life has not lapsed, this one's among them."""
        now = await now_ms(self._client, self.keys)
        return [name.decode() for name in await self._client.zrangebyscore(self.keys.workers, now, "+inf")]

    async def wake_another(self) -> None:
        """Give a token back that was meant for another worker."""
        await self._client.lpush(self.keys.wake, HANDED_BACK)

    async def begin(self, items: list[LeasedItem], prefetch: Prefetch | None = None) -> list[ClaimedWork]:
        """Read the verdict, task and frames of each item, in one round trip; not again of one with a `prefetch`."""
        first = None if prefetch is None else self._prefetched(items[0], *prefetch)
        if first is not None:
            items = items[1:]
        calls = [self._begin_call(item.job, item.index, item.payload, item.front) for item in items]
        frames = [self._frames_command(item.payload, item.index) for item in items]
        commands = [command for bound, pair in zip(calls, frames, strict=True) for command in (bound.command, pair)]
        answers = await pipeline(self._client, commands) if commands else []
        works = [] if first is None else [first]
        for item, bound, reply, pair in zip(items, calls, answers[::2], answers[1::2], strict=True):
            if isinstance(reply, redis.exceptions.NoScriptError):
                reply = await scripts.call(self._client, bound)
            for step in (reply, pair):
                if isinstance(step, Exception):
                    raise step
            works.append(read_work(item, reply, pair))
        return works

    def begin_along(self, call: ExpectedCall) -> list[Command]:
        """Return the commands whose answers make a `Prefetch`; of a call they change nothing."""
        begin = self._begin_call(call.job, 0, call.payload, call.front)
        return [begin.command, self._frames_command(call.payload, 0)]

    @staticmethod
    def _prefetched(item: LeasedItem, call: ExpectedCall, answers: list[Any]) -> ClaimedWork | None:
        """Read what was asked for before the claim; None where it is of another item, or failed."""
        is_same = call == ExpectedCall(item.stream, item.job, item.payload, item.front) and item.index == 0
        has_failed = any(isinstance(answer, Exception) for answer in answers)
        return read_work(item, *answers) if is_same and not has_failed else None

    def _begin_call(self, job: str, index: int, payload: str, front: str) -> scripts.ScriptCall:
        return scripts.BEGIN.bind(
            job=self.keys.job(job),
            front=self.keys.front(front),
            item=index,
            waits=int(bool(front)),
            token=payload,
        )

    def _frames_command(self, payload: str, index: int) -> Command:
        return "HMGET", self.keys.payload(payload), str(index), str(index + 1)

    async def answer(self, item: LeasedItem, result: bytes) -> bool:
        """Publish an answer if the lease is still this worker's; False if another has it."""
        attempt = self._attempt(item)
        life_ms = 4 * self._settings.lease_ms
        settle = self._settle_call(item, "ok")
        for _ in range(3):
            store = ("SET", attempt, result, "PX", life_ms)
            set_reply, outcome = await pipeline(self._client, [store, settle.command])
            if isinstance(set_reply, redis.exceptions.OutOfMemoryError):
                await scripts.call(self._client, scripts.KEEP.bind(place=attempt, value=result, ttl_ms=life_ms))
                outcome = await scripts.call(self._client, settle)
            elif isinstance(set_reply, Exception):
                raise classify(set_reply)
            if isinstance(outcome, redis.exceptions.NoScriptError):
                outcome = await scripts.call(self._client, settle)
            if isinstance(outcome, Exception):
                raise classify(outcome)
            if outcome[0] == 0:
                await self._client.unlink(attempt)
            if outcome[0] == 1:
                await self._trim(item, outcome)
                await self._trim_elsewhere(item, outcome, FRAME)
            if outcome[0] != -1:
                return bool(outcome[0] == 1)
        raise redis.ConnectionError("an attempt vanished before it was published")  # stopped for 4 leases, three times

    async def charge(self, client: str, flops: int) -> None:
        """Take a prediction's FLOPs from its caller's budget, where there is one."""
        allowance = self.keys.allowance(client)
        await scripts.call(self._client, scripts.CHARGE_ALLOWANCE.bind(allowance=allowance, gflop=repr(flops / 1e9)))

    async def fail(self, item: LeasedItem, failure: Failure) -> bool:
        """End an item with an error; False if another worker has it."""
        return await self._end(item, "fail", failure)

    async def storable(self, result: bytes) -> bool:
        """Tell whether Redis takes a value of this size and can send it to who asks for it."""
        return len(result) < LEAST_BULK or len(result) <= (await capacity(self._client)).value_limit

    async def here(self) -> bool:
        """Tell whether Redis answers at all."""
        try:
            return bool(await self._client.ping())
        except FAILED:
            return False

    async def others(self) -> bool:
        """Tell whether another worker lives."""
        return any(name != self._worker for name in await self.live_workers())

    async def _trim(self, item: LeasedItem, outcome: list[Any]) -> None:
        """Keep each answer of an ended job of several items for as long as its state; delete them all if it failed.

        Should Redis go away now they expire by themselves, later: the item has ended, and to end it again is refused.
        """
        _, state, items, kept_ms = outcome
        if items < 2 or item.front or state == b"running":
            return
        outs = [self.keys.out(item.job, k) for k in range(items)]
        with contextlib.suppress(*LOST):
            if state == b"done":
                await pipeline(self._client, [("PEXPIRE", out, kept_ms) for out in outs])
            else:
                await self._client.unlink(*outs)

    async def _trim_elsewhere(self, item: LeasedItem, outcome: list[Any], prefix: str) -> None:
        """Remove what is kept elsewhere of a job that this item ended: its frames (FRAME), its results, or all ("")."""
        _, state, items, _ = outcome  # no items: it had ended before, and a dead letter may have its frames
        if self._objects is not None and not item.front and items and state in (b"done", b"failed"):
            await self._objects.remove(item.job, prefix)

    def may_be_elsewhere(self, item: LeasedItem) -> bool:
        """Tell whether what Redis holds of an item's frames may be references: a job's, where there is a store."""
        return self._objects is not None and not item.front

    async def frames(self, work: ClaimedWork) -> ClaimedWork:
        """Fetch a job's frames that are elsewhere; raise NotFound where they are gone, StoreUnavailable."""
        assert self._objects is not None
        previous, current = await asyncio.gather(self._objects.get(work.previous), self._objects.get(work.current))
        return replace(work, previous=previous, current=current)

    async def put_elsewhere(self, work: ClaimedWork, result: bytes) -> bytes:
        """Store a large result elsewhere if whoever asked reads it there; return what Redis is to hold of it."""
        note = serialization.Note.RESULTS_ELSEWHERE
        if self._objects is None or work.item.front or not serialization.has_note(work.task, note):
            return result
        return await self._objects.put_result(work.item.job, work.item.index, result)

    async def discard_unpublished(self, item: LeasedItem, value: bytes) -> None:
        """Remove the object that `value` refers to unless it is the item's answer."""
        with contextlib.suppress(*FAILED):
            if self._objects is not None and await self._client.get(self.keys.out(item.job, item.index)) != value:
                await self._objects.discard([value])

    async def drop(self, item: LeasedItem) -> bool:
        """End an item that nobody waits for."""
        return await self._end(item, "drop", None)

    async def bury(self, item: LeasedItem, reason: str) -> bool:
        """End an item with `reason` as its error and keep a dead letter."""
        success = await self._end(item, "bury", Failure("internal", reason))
        if success:
            log.error("job %s, item %d: %s", item.job, item.index, reason)
        return success

    async def give_up(self, item: LeasedItem, failure: Failure) -> bool:
        """End an item with this error and keep a dead letter; False if another worker has it."""
        success = await self._end(item, "bury", failure)
        if success:
            log.error("job %s, item %d: %s", item.job, item.index, failure.message)
        return success

    async def _end(self, item: LeasedItem, how: str, failure: Failure | None) -> bool:
        data = b"" if failure is None else serialization.failure_bytes(failure)
        outcome = await scripts.call(self._client, self._settle_call(item, how, data))
        if outcome[0] == 1 and failure is not None:
            await self._trim(item, outcome)
            # Frames of a dead letter stay with it.
            await self._trim_elsewhere(item, outcome, RESULT if how == "bury" else "")
        return bool(outcome[0])

    async def hand_back(self, item: LeasedItem, back: HandBack) -> bool:
        """Release an item at once, with what is held against it."""
        return bool(await scripts.call(self._client, self._hand_back_call(item, back)))

    async def hand_back_all(self, items: list[LeasedItem]) -> None:
        """Release items for others to take at once, in one round trip; no run is held against its item."""
        commands = [self._hand_back_call(item, UNCOUNTED).command for item in items]
        for item, answer in zip(items, await pipeline(self._client, commands), strict=True):
            if isinstance(answer, redis.exceptions.NoScriptError):
                await self.hand_back(item, UNCOUNTED)
            elif isinstance(answer, Exception):
                log.warning("job %s, item %d is left to its lease: %s", item.job, item.index, answer)

    def _hand_back_call(self, item: LeasedItem, back: HandBack) -> scripts.ScriptCall:
        return scripts.HAND_BACK.bind(
            stream=item.stream,
            wake=self.keys.wake,
            job=self.keys.job(item.job),
            group=GROUP,
            entry=item.entry,
            worker=self._worker,
            idle_ms=HANDED_BACK_MS,
            counts=int(back.counted),
            lost_item=item.index if back.suspected else "",
            proves=int(back.loss),
        )

    def _attempt(self, item: LeasedItem) -> str:
        # With the upload's name: a job whose record was lost may be accepted anew while its first items still run here.
        return self.keys.attempt(item.job, item.index, f"{self._worker}-{item.payload}")

    def _settle_call(self, item: LeasedItem, how: str, failure: bytes = b"") -> scripts.ScriptCall:
        keys = self.keys
        return scripts.SETTLE.bind(
            stream=item.stream,
            job=keys.job(item.job),
            payload=keys.payload(item.payload),
            load=keys.load,
            attempt=self._attempt(item),
            out=keys.out(item.job, item.index),
            reply=keys.reply(item.job if item.has_own_reply else item.front),
            events=keys.events,
            buckets=keys.buckets,
            hooks=keys.hooks,
            dead=keys.dead,
            clients=keys.clients,
            results=keys.results,
            kept=keys.kept,
            due=keys.due,
            idle=keys.idle,
            group=GROUP,
            entry=item.entry,
            worker=self._worker,
            job_id=item.job,
            item=item.index,
            how=how,
            failure=failure,
            lease_ms=self._settings.lease_ms,
            most_deliveries=self._settings.max_deliveries,
            dead_ms=round(1000 * self._settings.dead_letter_ttl_s),
            rest_ms=IDLE_MS if self.held() == 0 else 0,
        )

    async def hear_withdrawals(self, withdraw: Callable[[list[str]], None], rng: random.Random) -> None:
        """Call `withdraw` with the jobs that their callers withdraw, for ever. `rng` spreads new tries."""
        delays, since = backoff(rng, HEAR_AGAIN_S), None
        while True:
            try:
                since, jobs = await self.withdrawn(since, BLOCK_S)
                delays = backoff(rng, HEAR_AGAIN_S)
            except FAILED as error:
                if not isinstance(error, LOST):  # that Redis is away, the worker's main loop says
                    log.warning("withdrawals are not heard: %s", error)
                await asyncio.sleep(next(delays))
                continue
            withdraw(jobs)

    async def withdrawn(self, since: bytes | None, block_s: float) -> tuple[bytes, list[str]]:
        """Wait up to `block_s` for jobs cancelled after `since` (None: now); return a new `since` and their ids."""
        if since is None:
            newest = await self._client.xrevrange(self.keys.cancels, count=1)
            since = newest[0][0] if newest else b"0-0"
        streams = await self._client.xread({self.keys.cancels: since}, block=round(1000 * block_s))
        if not streams:
            return since, []
        rows = streams[0][1]
        return rows[-1][0], [fields[b"j"].decode(errors="replace") for _, fields in rows if b"j" in fields]
