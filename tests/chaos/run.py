"""Chaos: real workers and front ends are killed, stopped and starved while jobs come in; then everything is counted.

`python -m tests.chaos.run --jobs 1000` prints what was done to the fleet and how every accepted job ended, and exits 1
if one was lost, answered twice or answered wrongly, if anything is left behind, or if a dead letter is no poison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis.asyncio

from service.core.codec import ImageFormat, encode
from service.core.types import PredictRequest
from service.engine.device import Work
from service.engine.predictor import Predictor
from service.jobs import cli
from service.jobs.keys import GROUP, Keys
from service.settings import Settings
from tests.chaos.fleet import Fleet
from tests.chaos.processes import picture
from tests.engine.tiny import predictor
from tests.jobs.servers import Server, binaries, binary

SIZES = ((32, 48), (48, 64))
LEASE_S = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked and what is done to the fleet. `seconds`: over which the jobs come in."""

    jobs: int = 1000
    seconds: float = 60.0
    workers: int = 3
    fronts: int = 2
    poison: int = 3
    kill_every: float = 1.0
    restarts: int = 2
    floods: int = 2
    seed: int = 1
    program: str = ""


@dataclass
class Count:
    """What happened."""

    accepted: dict[str, int] = field(default_factory=dict)  #: job id -> number
    retries: int = 0
    calls: dict[str, int] = field(default_factory=dict)  #: outcome of waiting calls -> how many
    wrong_calls: int = 0
    settled: dict[str, int] = field(default_factory=dict)  #: job id -> answers that were published
    stops: int = 0
    restarts: int = 0
    floods: int = 0


def shape_of(number: int) -> tuple[int, int, int]:
    """Frames, height and width of a job."""
    return (4 if number % 12 == 5 else 2), *SIZES[number % len(SIZES)]


class Chaos:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.count = Count()
        self.rng = random.Random(plan.seed)
        self.poison = set(self.rng.sample(range(0, plan.jobs, 2), plan.poison))
        program = binaries()[plan.program] if plan.program else binary()
        # `always`: what was promised with a 202 is on disk, so that a killed server breaks no promise.
        self.server = Server(program, "--appendonly", "yes", "--appendfsync", "always")
        self.settings = Settings(
            engine="redis",
            redis_url=self.server.url,
            lease_ms=round(1000 * LEASE_S),
            max_deliveries=5,
            max_queue_items=4000,
            warmup_sizes=(SIZES[0],),
            shutdown_grace_s=10.0,
            job_ttl_s=600.0,
        )
        self.keys = Keys(self.settings.redis_queue)
        self.over = False
        self.began = time.monotonic()

    def mark(self, what: str) -> None:
        """A line on where the time went."""
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", flush=True)

    async def run(self) -> list[str]:
        """What went wrong; nothing, if nothing did."""
        self.server.start()
        self.fleet = Fleet(self.settings, self.server.folder, self.plan.workers, self.plan.fronts, self.rng)
        self.redis: Any = redis.asyncio.Redis(unix_socket_path=str(self.server.socket), socket_timeout=10)
        self.clients = [
            httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), base_url="http://front", timeout=20)
            for socket in self.fleet.sockets
        ]
        try:
            await self._ready()
            self.mark("the fleet is up")
            watcher = asyncio.create_task(self._watch())
            breaker = asyncio.create_task(self._break())
            caller = asyncio.create_task(self._call())
            await self._submit_all()
            self.mark("jobs were accepted")
            self.over = True
            await asyncio.gather(breaker, caller)
            self.fleet.wake_all()
            unfinished = await self._finish()
            self.mark("all had ended")
            found = unfinished + await self._check()
            self.mark("all was checked")
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            found += [f"a drained worker exited with {code}" for code in self.fleet.drain() if code != 0]
            return found
        finally:
            self.fleet.end()
            for client in self.clients:
                await client.aclose()
            await self.redis.aclose()
            self.server.remove()

    async def _ready(self) -> None:
        """Loading torch, once for all, can take longer than a short run."""
        end = time.monotonic() + 60
        for client in self.clients:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/healthz/ready")).status_code == 200:
                        break
                assert time.monotonic() < end, "the fleet did not start"
                await asyncio.sleep(0.05)

    # --- load -----------------------------------------------------------------------------------------------------

    async def _submit_all(self) -> None:
        gate = asyncio.Semaphore(24)
        pause = self.plan.seconds / self.plan.jobs

        async def one(number: int) -> None:
            async with gate:
                await self._submit(number)

        async with asyncio.TaskGroup() as group:
            for number in range(self.plan.jobs):
                group.create_task(one(number))
                await asyncio.sleep(pause)

    async def _submit(self, number: int) -> None:
        frames = picture(number, *shape_of(number), number in self.poison)
        files = [("frames", encode(frame, ImageFormat.PNG)) for frame in frames]
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self._front().post("/v1/jobs", files=files, headers={"Idempotency-Key": str(number)})
                if answer.status_code in (200, 202):
                    self.count.accepted[answer.json()["id"]] = number
                    return
                assert answer.status_code in (429, 503), answer.text
            self.count.retries += 1
            await asyncio.sleep(0.2 * self.rng.random())

    async def _call(self) -> None:
        """Waiting calls beside the jobs: each ends with its right answer or with an honest error."""
        device = predictor()
        number = 10**6
        while not self.over:
            number += 1
            previous, current = picture(number, *shape_of(0), poison=False)
            files = {"previous": encode(previous, ImageFormat.PNG), "current": encode(current, ImageFormat.PNG)}
            headers = {"Accept": "application/octet-stream", "X-Request-Timeout-Ms": "5000"}
            try:
                answer = await self._front().post("/v1/predict", files=files, headers=headers)
                outcome = str(answer.status_code)
            except httpx.TransportError:
                outcome = "connection lost"
            else:
                if answer.status_code == 200:
                    right = expected(device, PredictRequest("", previous, current))
                    self.count.wrong_calls += answer.content != right
            self.count.calls[outcome] = self.count.calls.get(outcome, 0) + 1
            await asyncio.sleep(0.1)

    def _front(self) -> httpx.AsyncClient:
        return self.rng.choice(self.clients)

    # --- harm -----------------------------------------------------------------------------------------------------

    async def _break(self) -> None:
        plan, began = self.plan, time.monotonic()
        special = [(plan.seconds * (k + 0.5) / max(1, plan.restarts), self._restart) for k in range(plan.restarts)]
        special += [(plan.seconds * (k + 0.9) / max(1, plan.floods), self._flood) for k in range(plan.floods)]
        special.sort(key=lambda planned: planned[0])
        while not self.over or special:
            self.fleet.tend()
            if special and time.monotonic() - began >= special[0][0]:
                await special.pop(0)[1]()
            harm = self.rng.random()
            if harm < 0.6:
                self.fleet.kill_worker()
            elif harm < 0.8:
                self.fleet.kill_front()
            elif self.fleet.stop_worker(LEASE_S * self.rng.uniform(1.5, 3.0)):
                self.count.stops += 1
            await asyncio.sleep(plan.kill_every * self.rng.uniform(0.5, 1.5))

    async def _restart(self) -> None:
        """A crash of Redis; it comes back with what it had written down."""
        self.server.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(self.server.start)
        self.count.restarts += 1

    async def _flood(self) -> None:
        """Memory full to the last byte, for a while."""
        used = (await self.redis.info("memory"))["used_memory"]
        await self.redis.config_set("maxmemory", max(1, used - 100_000))
        await asyncio.sleep(1.5)
        await self.redis.config_set("maxmemory", 0)
        self.count.floods += 1

    # --- the count ------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Every answer that is published leaves one event."""
        since = b"0-0"
        while True:
            try:
                heard = await self.redis.xread({self.keys.events: since}, count=500, block=500)
            except (redis.ConnectionError, redis.TimeoutError):
                await asyncio.sleep(0.05)
                continue
            for entry, fields in heard[0][1] if heard else ():
                since = entry
                job = fields[b"j"].decode()
                self.count.settled[job] = self.count.settled.get(job, 0) + 1

    async def _finish(self, seconds: float = 90.0) -> list[str]:
        end = time.monotonic() + seconds
        open_jobs = set(self.count.accepted)
        while open_jobs and time.monotonic() < end:
            self.fleet.tend()
            pipe = self.redis.pipeline(transaction=False)
            names = sorted(open_jobs)
            for job in names:
                pipe.hget(self.keys.job(job), "s")
            for job, state in zip(names, await pipe.execute(), strict=True):
                if state is None or state in (b"done", b"failed"):
                    open_jobs.discard(job)
            await asyncio.sleep(0.2)
        return [f"job {self.count.accepted[job]} has not ended" for job in sorted(open_jobs)]

    async def _check(self) -> list[str]:
        wrong: list[str] = []
        device = predictor()
        await asyncio.sleep(0.6)  # the watcher's last read
        for job, number in self.count.accepted.items():
            count = shape_of(number)[0]
            state = (await self.redis.hget(self.keys.job(job), "s") or b"missing").decode()
            if state != ("failed" if number in self.poison else "done"):
                wrong.append(f"job {number} is {state}")
                continue
            items = 1 if number in self.poison else count - 1
            if self.count.settled.get(job) != items:
                wrong.append(f"job {number} of {items} items was answered {self.count.settled.get(job, 0)} times")
            if state == "done":
                wrong += await self._compare(device, job, number)
        dead = [fields[b"j"].decode() for _, fields in await self.redis.xrange(self.keys.dead)]
        letters = sorted(self.count.accepted.get(job, -1) for job in dead)
        if letters != sorted(self.poison):
            wrong.append(f"dead letters are {letters}, poison was {sorted(self.poison)}")
        return wrong + await self._leftovers()

    async def _compare(self, device: Predictor, job: str, number: int) -> list[str]:
        frames = picture(number, *shape_of(number), poison=False)
        raw = {"Accept": "application/octet-stream"}
        answer = None
        for _ in range(50):
            with contextlib.suppress(httpx.TransportError):
                answer = await self._front().get(f"/v1/jobs/{job}/result", headers=raw)
                if answer.status_code != 503:
                    break
            await asyncio.sleep(0.1)
        if answer is None or answer.status_code != 200:
            return [f"job {number} has no result: {answer.text if answer is not None else 'no front end'}"]
        pairs = itertools.pairwise(frames)
        right = b"".join(expected(device, PredictRequest("", one, two)) for one, two in pairs)
        return [] if answer.content == right else [f"job {number} has the wrong result"]

    async def _leftovers(self) -> list[str]:
        """Purges the dead letters as an operator would; then nothing of any item may be left but results."""
        await asyncio.to_thread(cli.main, ["purge", "--all", "--quiet"], self.settings)
        left: list[str] = []
        end = time.monotonic() + 20  # an upload cut off before its submission expires
        while True:
            left = [
                key.decode()
                async for key in self.redis.scan_iter(match="*", count=1000)
                if key.decode().partition("}:")[2].startswith(("s:", "p:", "a:", "dead", "buckets"))
            ]
            load = {k.decode(): int(v) for k, v in (await self.redis.hgetall(self.keys.load)).items()}
            if (not left and not any(load.values())) or time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        pending = [await self.redis.xpending(key, GROUP) for key in left if "}:s:" in key]
        found = [f"left behind: {key}" for key in left] + [f"pending: {p}" for p in pending]
        return found + ([f"counters are {load}"] if any(load.values()) else [])

    def report(self) -> str:
        """The run in numbers."""
        c, fleet = self.count, self.fleet
        items = sum(shape_of(n)[0] - 1 for n in c.accepted.values())
        calls = ", ".join(f"{n} x {outcome}" for outcome, n in sorted(c.calls.items()))
        return "\n".join(
            [
                f"accepted jobs        {len(c.accepted)} ({items} predictions), after {c.retries} refused or cut tries",
                f"workers killed       {fleet.killed['worker']} by SIGKILL, {fleet.died} by poison",
                f"workers stopped      {c.stops} for longer than a lease",
                f"front ends killed    {fleet.killed['front end']}",
                f"redis                {c.restarts} crashes with AOF, {c.floods} times full memory",
                f"answers published    {sum(c.settled.get(job, 0) for job in c.accepted)}",
                f"poison jobs          {len(self.poison)}",
                f"waiting calls        {calls}; {c.wrong_calls} wrong",
            ]
        )


def expected(device: Predictor, request: PredictRequest) -> bytes:
    """The next frame's pixels, by the tiny network alone: its answers do not depend on a batch."""
    (outcome,) = device.run([Work(request)], lambda work: True).outcomes
    assert isinstance(outcome, tuple)
    return outcome[0].frame.pixels.tobytes()


def main(argv: list[str] | None = None) -> int:
    """0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    for item in dataclasses.fields(Plan):
        name = item.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=type(item.default), default=item.default)
    plan = Plan(**vars(parser.parse_args(argv)))
    began = time.monotonic()
    chaos = Chaos(plan)
    wrong = asyncio.run(chaos.run())
    print(chaos.report())
    print(f"took                 {time.monotonic() - began:.0f} s, seed {plan.seed}, {chaos.server.program.name}")
    print("\n".join(wrong) if wrong else "0 missing, 0 double, 0 wrong, nothing left behind, only poison is dead")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
