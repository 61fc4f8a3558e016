"""What callers saw and what Redis kept, and whether it is what was promised.

Each accepted job ends exactly once, with the right bytes; what was to fail has failed, and nothing else; no counter and
no key of an item stays. Knows the queue's keys, and no fault, fleet or transport: any test over Redis may use it.
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

#: Keys of items that nothing may leave behind once all is done: streams, uploads, attempts, dead letters, buckets.
PASSING = ("s:", "p:", "a:", "dead", "buckets")
#: Seconds within which an upload that was cut off expires, and more.
LEFTOVER_S = 15.0
#: A front end gives a sign of life every second; on a busy machine a little later, milliseconds.
BEAT_MS = 3000


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job as promised by a 200 or 202, which was asked for at `sent` and had come by `at`, monotonic seconds.

    `guilty`: it is to fail, as a dead letter.
    """

    number: int
    items: int
    sent: float
    at: float
    guilty: bool = False


@dataclass(slots=True)
class Verdict:
    """What was found; a line of `notes` for each thing counted."""

    jobs: int = 0
    lost: int = 0
    unsynced: int = 0  #: lost, but accepted so shortly before a power cut that the settings promise nothing
    oldest_s: float = 0.0  #: the longest that one of them was accepted before the cut, seconds
    double: int = 0
    wrong: int = 0
    left: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.double or self.wrong or self.left)


@dataclass
class History:
    """Fill `accepted` as jobs are accepted, let `watch` run beside, then `unfinished` and `check`.

    `expected` gives the right bytes of a job's number, `fetch` a job's result as callers get it, None without one.
    `unsynced_s`: seconds before each of `cuts` (monotonic) for which the disk promised nothing.
    """

    redis: Any
    keys: Keys
    expected: Callable[[int], bytes]
    fetch: Callable[[str], Awaitable[bytes | None]]
    unsynced_s: float = 0.0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    settled: dict[str, list[float]] = field(default_factory=dict)  #: job -> when each of its answers was published
    calls: Counter[str] = field(default_factory=Counter)  #: outcome of waiting calls -> how many
    wrong_calls: int = 0
    cuts: list[float] = field(default_factory=list)

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
        """Counts; `unfinished` are lost without a look."""
        verdict = Verdict(jobs=len(self.accepted), wrong=self.wrong_calls)
        await asyncio.sleep(0.6)  # the watcher's last read
        states = await self._states(list(self.accepted))
        for job, promise in self.accepted.items():
            state = "unfinished" if job in unfinished else states[job]
            if state != ("failed" if promise.guilty else "done"):
                self._lost(verdict, promise, state)
                continue
            answers = [at for at in self.settled.get(job, []) if not self._undone(at)]
            if len(answers) > promise.items:
                verdict.double += 1
                verdict.notes.append(f"job {promise.number} of {promise.items} items was answered {len(answers)} times")
            if state == "done" and await self.fetch(job) != await asyncio.to_thread(self.expected, promise.number):
                verdict.wrong += 1
                verdict.notes.append(f"job {promise.number} has a wrong result or none")
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
        verdict.left += len(left) + len(counters)
        verdict.notes += [f"left behind: {name}" for name in left]
        verdict.notes += [f"pending: {await self.redis.xpending(name, GROUP)}" for name in left if "}:s:" in name]
        verdict.notes += [f"counter {name} is {value}" for name, value in counters.items()]

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

    def _undone(self, at: float) -> bool:
        """Whether a power cut may have undone what was written then."""
        return any(0 <= cut - at <= self.unsynced_s for cut in self.cuts)

    def _lost(self, verdict: Verdict, promise: Accepted, state: str) -> None:
        # Somewhere between question and answer it was written. The answer may have come after the cut.
        ages = [max(0.0, cut - promise.at) for cut in self.cuts if promise.sent <= cut]
        if state == "missing" and self.unsynced_s and ages and min(ages) <= self.unsynced_s:
            verdict.unsynced += 1
            verdict.oldest_s = max(verdict.oldest_s, min(ages))
            return
        verdict.lost += 1
        verdict.notes.append(f"job {promise.number} is {state}")
