"""One seed: a fleet, callers and faults drawn from it, and the verdict of the history checker."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import marshal
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.core.types import Quality
from service.distributed.broker.keys import GROUP, Keys
from service.settings import Settings
from simulator.history import (
    Cuts,
    Guarantee,
    Publication,
    Verdict,
    judge_answers,
    judge_calls,
    judge_jobs,
    judge_leftovers,
    judge_order,
)
from simulator.service import stand_ins
from simulator.service.callers import SIZES, Callers, Record
from simulator.service.faults import KINDS, Stage
from simulator.service.fleet import WARM_SIZES, Fleet
from simulator.service.idle_fleet import IdleFleet
from simulator.service.redis_model.store import RedisRefusal
from simulator.service.redis_model.streams import Stream
from simulator.service.server import SimulatedServer
from simulator.service.virtual_loop import VirtualLoop
from simulator.service.virtual_threads import Threads

#: Seconds within which all accepted jobs end once the faults are over.
PATIENCE_S = 60.0
#: Seconds within which a front end is ready again, and a fresh worker speaks.
RECOVERY_S = 12.0
#: Keys of items that nothing may leave behind once all is done: streams, uploads, attempts, dead letters, buckets.
PASSING = ("s:", "p:", "a:", "dead", "buckets", "due")
#: Seconds within which an upload that was cut off expires, and more.
LEFTOVER_S = 15.0
#: Milliseconds; short, so that little time passes until what a dead worker had is run again.
LEASE_MS = 800
Trace = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed draws: the fleet, how many faults of which kinds, and how much is asked for."""

    seed: int
    workers: int
    fronts: int
    kinds: tuple[str, ...]
    faults: int
    jobs: int
    calls: int
    streams: int
    max_batch: int
    device_rows: int
    slowness: float = 1.0  #: of the device: a slow one has more in its hands when harm comes
    stretch: float = 1.0  #: times as long for as much harm and as many callers
    lease_ms: int = LEASE_MS

    @classmethod
    def draw(cls, seed: int) -> Plan:
        """Draw a plan: a few kinds of faults each, since many kinds at once hide one another."""
        rng = random.Random(seed)
        kinds = rng.sample(sorted(KINDS), rng.randint(1, 4))
        return cls(
            seed,
            workers=rng.randint(1, 3),
            fronts=rng.randint(1, 2),
            kinds=tuple(kinds),
            faults=rng.randint(2, 8),
            jobs=rng.randint(4, 14),
            calls=rng.randint(10, 40),
            streams=rng.randint(0, 2),
            max_batch=rng.choice((1, 4, 8)),
            device_rows=rng.choice((1, 4, 8)),
            slowness=rng.choice((1.0, 5.0, 20.0)),
        )

    def stretched(self, times: float) -> Plan:
        """Return the plan over so many times as long, with leases as they are shipped: much calm between two harms."""
        return dataclasses.replace(self, stretch=times, lease_ms=Settings().lease_ms)

    def shorter(self) -> Plan:
        """Return the plan with less asked for, for a run that others wait for."""
        limits = {"faults": 4, "jobs": 4, "calls": 8, "streams": 1}
        return dataclasses.replace(self, **{name: min(most, getattr(self, name)) for name, most in limits.items()})


@dataclass(slots=True)
class Outcome:
    """What one seed showed. `digest` is of its whole trace: the same for the same seed."""

    plan: Plan
    verdict: Verdict
    virtual_s: float = 0.0
    commands: int = 0  #: of processes to the server, those of scripts not counted
    digest: str = ""
    calls: dict[str, int] = field(default_factory=dict)


class Simulation:
    """One seed's world, from the first process to the verdict."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self._plan, self._trace = plan, trace
        self._loop = VirtualLoop()
        self._threads = Threads(self._loop)
        self._server = SimulatedServer(self._loop)
        self._rng = random.Random(f"{plan.seed}:world")
        self._hash = hashlib.sha256()
        self._links: dict[object, object] = {}
        self._settings = Settings(
            engine="redis",
            redis_url="redis://simulated",
            lease_ms=plan.lease_ms,
            warmup_sizes=WARM_SIZES,
            shutdown_grace_s=5.0,
            job_ttl_s=86_400.0,
            max_batch=plan.max_batch,
            max_deliveries=8,
        )
        self._keys = Keys(self._settings.redis_queue)
        self._record = Record()
        self._publications: list[Publication] = []
        self._verdict = Verdict()
        self._server.trace = self._note_command
        self._server.engine.on_rename = self._publish

    def now_ms(self) -> int:
        """Return the server's wall clock, milliseconds."""
        return self._server.now_ms()

    def record(self) -> list[tuple[Sequence[object], object]]:
        """Return a list that all commands and their answers will be appended to."""
        recording = self._server.recording = []
        return recording

    def run(self) -> Outcome:
        """Play the seed and judge it."""
        start = self._loop.time()
        gc.disable()  # most of what is made here is short-lived
        with stand_ins.installed(self._loop, self._threads, self._links, self._plan.seed):  # type: ignore[arg-type]
            try:
                self._loop.run_until_complete(self._play())
            except Exception as error:
                self._verdict.broke(Guarantee.FAILED, f"the simulation itself failed: {type(error).__name__}: {error}")
            finally:
                self._loop.close()
                gc.enable()
        counts: dict[str, int] = {}
        for call in self._record.calls:
            counts[call.outcome] = counts.get(call.outcome, 0) + 1
        virtual_s, digest = self._loop.time() - start, self._hash.hexdigest()
        return Outcome(self._plan, self._verdict, virtual_s, self._server.commands, digest, counts)

    async def _play(self) -> None:
        fleet = Fleet(
            self._loop,
            self._threads,
            self._server,
            self._settings,
            random.Random(self._rng.getrandbits(64)),
            self._links,  # type: ignore[arg-type]
            device_rows=self._plan.device_rows,
            slowness=self._plan.slowness,
        )
        for _ in range(self._plan.fronts):
            fleet.start_front()
        for _ in range(self._plan.workers):
            fleet.start_worker()
        stage = Stage(self._loop, self._server, fleet, random.Random(self._rng.getrandbits(64)), Cuts(unsynced_s=1.0))
        callers = Callers(self._loop, fleet, random.Random(self._rng.getrandbits(64)), self._record, stage.paused_since)
        await self._until(lambda: all(front.engine.readiness().ready for front in fleet.fronts), RECOVERY_S)
        await asyncio.gather(self._harm(stage), self._ask(callers))
        await self._count(stage, fleet, callers)
        fleet.end()
        await asyncio.sleep(1.0)

    # --- the noise ------------------------------------------------------------------------------------------------

    async def _harm(self, stage: Stage) -> None:
        await asyncio.sleep(0.5)
        lasting = []
        for _ in range(self._plan.faults):
            kind = stage.rng.choice(self._plan.kinds)
            self._note(f"fault: {kind}")
            lasting.append(asyncio.ensure_future(KINDS[kind](stage)))
            await stage.last(0.05, 3.0 * self._plan.stretch)
        await asyncio.gather(*lasting)

    async def _ask(self, callers: Callers) -> None:
        rng, plan = callers.rng, self._plan
        job_s, call_s = 12.0 * plan.stretch, 14.0 * plan.stretch
        asked = []
        for _ in range(plan.jobs):
            asked.append(asyncio.ensure_future(self._job(callers, rng.uniform(0, job_s))))
        for _ in range(plan.calls):
            asked.append(asyncio.ensure_future(self._call(callers, rng.uniform(0, call_s))))
        for number in range(plan.streams):
            asked.append(asyncio.ensure_future(callers.stream(rng.randint(5, 60), 0.04, f"stream {number}")))
        await asyncio.gather(*asked)

    async def _job(self, callers: Callers, after: float) -> None:
        await asyncio.sleep(after)
        rng = callers.rng
        job = await callers.submit(rng.choice((1, 1, 2, 5)), rng.choice(("", "ann", "ben")), rng.choice(SIZES))
        if rng.random() < 0.15:
            await asyncio.sleep(rng.uniform(0, 0.5))
            await callers.withdraw(job)

    async def _call(self, callers: Callers, after: float) -> None:
        await asyncio.sleep(after)
        rng = callers.rng
        quality = rng.choice((Quality.EXACT, Quality.ADAPTIVE))
        work = asyncio.ensure_future(
            callers.call(
                rng.choice((0.03, 0.3, 2.0, 5.0)),
                rng.choice(("", "ann", "ben", "cid")),
                rng.choice(SIZES),
                None,
                quality,
            )
        )
        if rng.random() < 0.15:  # leaves without waiting
            await asyncio.sleep(rng.uniform(0, 0.1))
            work.cancel()
        await asyncio.wait({work})

    # --- the count ------------------------------------------------------------------------------------------------

    async def _count(self, stage: Stage, fleet: Fleet, callers: Callers) -> None:
        verdict, record = self._verdict, self._record
        for text in record.refused:
            verdict.broke(Guarantee.REFUSED, text)
        await self._until(lambda: self._states_are_final(), PATIENCE_S)
        await self._until(lambda: self._is_settled(fleet), RECOVERY_S)
        idle = IdleFleet(fleet, callers, verdict, min(self._plan.max_batch, self._plan.device_rows))
        await idle.probe()
        await idle.burst()
        await idle.abandon()
        states = self._states()
        for job in judge_jobs(verdict, record.accepted, states, stage.cuts):
            if not await callers.right_results(job):
                verdict.broke(Guarantee.WRONG, f"job {record.accepted[job].number} has a wrong result or none")
        judge_answers(verdict, self._publications, stage.cuts)
        judge_calls(verdict, record.calls, may_fail=stage.device_faults > 0)
        for name, numbers in record.streams.items():
            judge_order(verdict, name, numbers)
        await self._until(lambda: not self._leftovers(), LEFTOVER_S)
        judge_leftovers(verdict, self._leftovers(), self._counters())

    def _is_settled(self, fleet: Fleet) -> bool:
        live = len(fleet.fronts) == self._plan.fronts and len(fleet.workers) >= self._plan.workers
        return (
            live
            and all(front.engine.readiness().ready for front in fleet.fronts)
            and self._live_workers() >= len(fleet.workers)
        )

    def _live_workers(self) -> int:
        return int(self._server.engine.execute(("ZCOUNT", self._keys.workers, self._server.now_ms(), "+inf")))

    def _states(self) -> dict[str, str]:
        states = {job: self._server.engine.execute(("HGET", self._keys.job(job), "s")) for job in self._record.accepted}
        return {job: (state or b"missing").decode() for job, state in states.items()}

    def _states_are_final(self) -> bool:
        return self._server.is_up and all(state not in ("queued", "running") for state in self._states().values())

    def _leftovers(self) -> Sequence[str]:
        names = [name.decode() for name in self._server.engine.store.names()]
        return [name for name in names if name.partition("}:")[2].startswith(PASSING)]

    def _counters(self) -> dict[str, int]:
        words = self._server.engine.execute(("HGETALL", self._keys.load))
        return {name.decode(): int(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = self._loop.time() + seconds
        while not condition() and self._loop.time() < deadline:
            await asyncio.sleep(0.1)
        return condition()

    # --- what the server shows --------------------------------------------------------------------------------------

    def _note(self, line: str) -> None:
        self._hash.update(line.encode())
        if self._trace is not None:
            self._trace(f"{self._loop.time():.6f} {line}")

    def _note_command(self, words: Any, answer: Any, arrow: str) -> None:
        # Of version 2, whose bytes depend on nothing but the values. To write them as text takes five times as long.
        plain = str(answer) if isinstance(answer, RedisRefusal) else answer
        self._hash.update(marshal.dumps((self._loop.now, words, plain), 2))
        if self._trace is not None:
            self._note(f"{words!r:.400} {arrow} {answer!r:.200}")

    def _publish(self, attempt: bytes, out: bytes) -> None:
        words = out.decode().split(":")
        job, item = words[-2], int(words[-1])
        worker = attempt.decode().split(":")[-1].rpartition("-")[0]
        self._publications.append(Publication(job, item, self._loop.time(), worker, self._owner(job, item)))

    def _owner(self, job: str, item: int) -> str | None:
        values = self._server.engine.store.values
        for name in list(values.get(self._keys.buckets.encode(), ())):
            stream = values.get(name)
            if isinstance(stream, Stream) and GROUP.encode() in stream.groups:
                for entry, claim in stream.groups[GROUP.encode()].pending.items():
                    fields = stream.entries.get(entry, [])
                    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
                    if pairs.get(b"j") == job.encode() and pairs.get(b"k") == b"%d" % item:
                        return claim.consumer.decode()
        return None
