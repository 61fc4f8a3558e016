"""Reads from Redis what callers were promised and what became of it, for the one checker: `simulator.history`.

Knows the queue's keys, and no fault, fleet or transport: any test over Redis may use it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from service.distributed.broker.keys import GROUP, Keys
from service.distributed.frontend.queue_client import FRONT_MS
from simulator.history import Accepted, Cuts, Guarantee, Verdict, judge_counts, judge_jobs, judge_leftovers

#: Keys of items that nothing may leave behind once all is done: streams, uploads, attempts, dead letters, buckets.
PASSING = ("s:", "p:", "a:", "dead", "buckets")
#: Seconds within which an upload that was cut off expires, and more.
LEFTOVER_S = 15.0
#: A front end gives a sign of life every second; on a busy machine a little later, milliseconds.
BEAT_MS = 3000


@dataclass
class History:
    """Fill `accepted` as jobs are accepted, let `watch` run beside, then `unfinished` and `check`.

    `expected` gives the right bytes of a job's number, `fetch` a job's result as callers get it, None without one.
    """

    redis: Any
    keys: Keys
    expected: Callable[[int], bytes]
    fetch: Callable[[str], Awaitable[bytes | None]]
    accepted: dict[str, Accepted] = field(default_factory=dict)
    settled: dict[str, list[float]] = field(default_factory=dict)  #: job -> when each of its answers was published
    calls: Counter[str] = field(default_factory=Counter)  #: outcome of waiting calls -> how many
    wrong_calls: int = 0
    cuts: Cuts = field(default_factory=Cuts)  #: when the disk lost power, monotonic

    async def watch(self) -> None:
        """Hears of every answer that is published, until it is cancelled."""
        since = b"0-0"
        while True:
            try:
                streams = await self.redis.xread({self.keys.events: since}, count=500, block=500)
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.05)
                continue
            for entry, fields in streams[0][1] if streams else ():
                since = entry
                self.settled.setdefault(fields[b"j"].decode(), []).append(time.monotonic())

    async def unfinished(self, seconds: float, tend: Callable[[], None] = lambda: None) -> set[str]:
        """Waits until all accepted jobs have ended, for so long at most; those that have not."""
        end = time.monotonic() + seconds
        waiting = set(self.accepted)
        while waiting and time.monotonic() < end:
            tend()
            states = await self._states(sorted(waiting))
            waiting -= {job for job, state in states.items() if state in ("done", "failed", "missing")}
            await asyncio.sleep(0.1)
        return waiting

    async def check(self, unfinished: set[str]) -> Verdict:
        """Judges jobs, their answers and calls; `unfinished` are lost without a look."""
        verdict = Verdict()
        await asyncio.sleep(0.6)  # the watcher's last read
        states = await self._states(list(self.accepted)) | dict.fromkeys(unfinished, "unfinished")
        for job in judge_jobs(verdict, self.accepted, states, self.cuts):
            number = self.accepted[job].number
            if await self.fetch(job) != await asyncio.to_thread(self.expected, number):
                verdict.broke(Guarantee.WRONG, f"job {number} has a wrong result or none")
        judge_counts(verdict, self.accepted, self.settled, self.cuts)
        for _ in range(self.wrong_calls):
            verdict.broke(Guarantee.WRONG, "a call has a wrong answer")
        for _, fields in await self.redis.xrange(self.keys.dead):
            letter = self.accepted.get(fields[b"j"].decode())
            if letter and not letter.guilty:
                verdict.notes.append(f"job {letter.number} is a dead letter")
        return verdict

    async def beating(self) -> int:
        """How many front ends gave a sign of life within the last seconds: without it, their calls are dropped."""
        names = [name async for name in self.redis.scan_iter(match=f"{self.keys.front('*')}", count=1000)]
        return sum([await self.redis.pttl(name) > FRONT_MS - BEAT_MS for name in names])

    async def leftovers(self, verdict: Verdict) -> None:
        """Adds what is left of items to `verdict`; to be called when dead letters have been purged."""
        end = time.monotonic() + LEFTOVER_S
        while True:
            left = [name async for name in self._passing()]
            counters = {k.decode(): int(v) for k, v in (await self.redis.hgetall(self.keys.load)).items() if int(v)}
            if not (left or counters) or time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        judge_leftovers(verdict, left, counters)
        verdict.notes += [f"pending: {await self.redis.xpending(name, GROUP)}" for name in left if "}:s:" in name]

    async def _passing(self) -> Any:
        async for key in self.redis.scan_iter(match="*", count=1000):
            name = key.decode()
            if name.partition("}:")[2].startswith(PASSING):
                yield name

    async def _states(self, jobs: Sequence[str]) -> dict[str, str]:
        pipe = self.redis.pipeline(transaction=False)
        for job in jobs:
            pipe.hget(self.keys.job(job), "s")
        return {job: (s or b"missing").decode() for job, s in zip(jobs, await pipe.execute(), strict=True)}
