"""What a caller gets behind Redis against the engine in its own process: same scheduler, same made-up device, one run.

`python -m benchmarks.embedded_and_redis` prints a table in Markdown. The device sleeps for as long as it says a
prediction takes, so what differs is queueing, sharing, admission and the way, and no network is needed. Loop and memory
are those of the service.

Both ways run in this one process; the burst has four workers here, as four processes would be.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import uvloop
from prometheus_client import CollectorRegistry

from service import startup
from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.core.interfaces import Engine, ServedModel
from service.core.types import Frame, Options, PredictRequest, Quality, Route, Step
from service.distributed.broker import scripts
from service.distributed.broker.client import connect
from service.distributed.broker.keys import GROUP
from service.distributed.frontend.backend import FrontendEngine
from service.distributed.worker.due_work import DueWork
from service.distributed.worker.worker import Worker
from service.engine.batcher import Batcher
from service.engine.device import ChosenRoute, DeviceWork, Flops, RunOutput, bucket_of
from service.engine.scheduling.cost_model import Load, MeasuredRun
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.servers import Server, running

FULL: Route = (True,) * 9
ONE: Route = (True, *(False,) * 8)
#: What is asked about where policy is compared, and where the way is: height, width.
SMALL, SIZE = (64, 64), (256, 448)


class SleepingDevice:
    """A `Device` that sleeps `block_seconds` for each block that runs and answers the newer frame."""

    info = ServedModel("sleeping", "cpu", "float32", 1, "rgb", "none", "0" * 64)
    weights_of_blocks = (1000.0,) * 9
    weight_of_routing = 1000.0
    rows = 1

    def __init__(self, block_seconds: float, size: tuple[int, int] = SMALL) -> None:
        self.block_seconds, self.size = block_seconds, size

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> list[MeasuredRun]:
        """Tell what two routes would take, of the one size that is asked about."""
        bucket = Bucket.of(*self.size)
        return [
            MeasuredRun(bucket, Load.of(bucket, [route], 1, 1), self.block_seconds * sum(route))
            for route in (FULL, ONE)
        ]

    def flops(self, bucket: Bucket) -> Flops:
        """Count one FLOP a block, and one for routing."""
        return Flops(1, (1,) * 9)

    def routes(self, requests: Sequence[PredictRequest]) -> list[ChosenRoute]:
        """Choose all blocks."""
        return [ChosenRoute(FULL, (1.0,) * 9) for _ in requests]

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        """Sleep for the works' blocks, step by step."""
        routes = [work.route or FULL for work in works for _ in range(work.request.options.steps)]
        time.sleep(self.block_seconds * sum(map(sum, routes)))
        outcomes = tuple(
            (Step(work.request.current, route, 1 + sum(route)),) * work.request.options.steps
            for work in works
            for route in [work.route or FULL]
        )
        steps = max(work.request.options.steps for work in works)
        return RunOutput(outcomes, Load.of(bucket_of(works[0].request), routes, steps, len(works)))

    def free(self) -> None:
        """Have nothing to free."""

    def knows_motion(self, request: PredictRequest) -> bool:
        """Tell that no motion is known."""
        return False

    def memory(self) -> None:
        """Know nothing of memory."""


def metrics() -> Metrics:
    """Make metrics that nobody reads."""
    return Metrics(CollectorRegistry())


@asynccontextmanager
async def embedded(block_seconds: float, size: tuple[int, int] = SMALL) -> AsyncIterator[Engine]:
    """Run the engine of this process."""
    engine = Batcher(lambda: SleepingDevice(block_seconds, size), Settings(), metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def behind_redis(
    server: Server, block_seconds: float, size: tuple[int, int] = SMALL, workers: int = 1
) -> AsyncIterator[Engine]:
    """Run a front end and `workers`, each with an engine of its own, over an empty server."""
    client = server.client()
    client.flushall()
    client.close()
    settings = Settings(engine="redis", redis_url=server.url)
    engines = [Batcher(lambda: SleepingDevice(block_seconds, size), settings, metrics()) for _ in range(workers)]
    for engine in engines:
        await engine.start()
    parts = [Worker(settings, engine, metrics(), device=engine.scheduling) for engine in engines]
    tasks = [asyncio.create_task(part.run()) for part in parts]
    front = FrontendEngine(settings, metrics())
    await front.start()
    try:
        await asyncio.sleep(2.0)  # the front end has read what the workers announce, and they rest
        yield front
    finally:
        await front.close()
        for part in parts:
            part.stop()
        await asyncio.gather(*tasks)
        for engine in engines:
            await engine.close()


def request(
    number: int, seconds: float, client: str = "", options: Options | None = None, size: tuple[int, int] = SMALL
) -> PredictRequest:
    """Ask about a pair of noise that is to be answered within `seconds`."""
    return PredictRequest(str(number), *noise(size), options or Options(), time.monotonic() + seconds, client)


@functools.cache
def noise(size: tuple[int, int]) -> tuple[Frame, Frame]:
    """Make the one pair of a size that every call asks about, before any deadline runs."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    return Frame(pixels[0].copy()), Frame(pixels[1].copy())


@dataclass
class Outcomes:
    """Seconds from the beginning to each answer, by client, and how many calls were not answered."""

    start: float = field(default_factory=time.monotonic)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0

    async def call(self, engine: Engine, call: PredictRequest) -> None:
        """Predict, and note how it ends."""
        try:
            await engine.predict(call)
        except ServiceError:
            self.failures += 1
        else:
            self.seconds.setdefault(call.client, []).append(time.monotonic() - self.start)


async def adaptive(engine: Engine) -> str:
    """Ask 200 adaptive calls at once, 4 s each, for a device that needs 54 ms for all blocks and 6 for one."""
    outcomes, options = Outcomes(), Options(quality=Quality.ADAPTIVE)
    calls = [request(k, 4.0, options=options) for k in range(200)]
    await asyncio.gather(*(outcomes.call(engine, call) for call in calls))
    return f"{sum(map(len, outcomes.seconds.values()))} of 200"


async def fairness(engine: Engine) -> str:
    """Ask 150 calls of one client and, a second later, 3 of another, 54 ms each: seconds to their last answer."""
    outcomes = Outcomes()
    greedy = [asyncio.create_task(outcomes.call(engine, request(k, 25.0, "greedy"))) for k in range(150)]
    await asyncio.sleep(1.0)
    start = time.monotonic() - outcomes.start
    await asyncio.gather(*(outcomes.call(engine, request(k, 25.0, "modest")) for k in range(3)))
    seconds = max(outcomes.seconds.get("modest", [math.inf])) - start
    for task in greedy:
        task.cancel()
    await asyncio.gather(*greedy, return_exceptions=True)
    return f"{seconds:.2f} s"


async def many_steps(engine: Engine) -> str:
    """Let a client of 8 steps a call and one of 1 step ask without end for 8 s: the share of the latter."""
    outcomes = Outcomes()
    stop = outcomes.start + 8.0

    async def ask(client: str, steps: int, number: int) -> None:
        while time.monotonic() < stop:
            await outcomes.call(engine, request(number, 30.0, client, Options(steps=steps)))

    await asyncio.gather(
        *(ask("eight", 8, k) for k in range(8)),
        *(ask("one", 1, k) for k in range(8)),
    )
    counts = {client: sum(at <= 8.0 for at in answers) for client, answers in outcomes.seconds.items()}
    steps = {"eight": 8 * counts.get("eight", 0), "one": counts.get("one", 0)}
    return f"{100 * steps['one'] / max(1, sum(steps.values())):.0f} %"


async def overhead(engine: Engine, calls: int = 100) -> str:
    """Ask calls one after the other of a device that takes no time: milliseconds, median."""
    seconds = []
    for k in range(calls):
        call = request(k, 10.0, size=SIZE)
        start = time.perf_counter()
        await engine.predict(call)
        seconds.append(time.perf_counter() - start)
    return f"{1000 * float(np.median(seconds)):.1f} ms"


async def burst(server: Server, block_seconds: float = 0.1 / 9) -> str:
    """Ask 16 calls of 0.1 s at once of four idle workers: the last answer, as a multiple of 0.4 s."""
    async with behind_redis(server, block_seconds, workers=4) as engine:
        calls, outcomes = [request(k, 20.0) for k in range(16)], Outcomes()
        await asyncio.gather(*(outcomes.call(engine, call) for call in calls))
        return f"{max(outcomes.seconds[''] or [math.inf]) / 0.4:.2f}"


async def claim_cost(server: Server, sizes: int = 2000, claims: int = 50) -> str:
    """Fill `sizes` streams and claim one after the other: microseconds of Redis' thread for each claim."""
    settings = Settings(redis_url=server.url)
    client = connect(settings)
    work = DueWork(settings, client, "bench", clock=lambda: -1e9)
    await client.flushall()
    keys = work.keys
    for k in range(sizes):
        stream = keys.stream(0, f"{16 * (k + 1)}x64@1")
        await client.xadd(stream, {"j": str(k), "d": str(k), "w": "1000", "x": "0"})
        await client.sadd(keys.buckets, stream)
    streams = sorted(await client.smembers(keys.buckets))
    for start in range(0, sizes, 100):
        names = [stream.decode() for stream in streams[start : start + 100]]
        await scripts.call(client, scripts.SWEEP.bind(*names, due=keys.due, group=GROUP))
    await work.claim(1, together=1, held_items=0)
    await client.config_resetstat()
    for _ in range(claims):
        assert (await work.claim(1, together=1, held_items=0)).items
    stats = await client.info("commandstats")
    await client.aclose()
    return f"{sum(row['usec'] for name, row in stats.items() if name == 'cmdstat_evalsha') / claims:.0f} us"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: asked of both ways. `block_seconds` and `size` are the device's."""

    name: str
    block_seconds: float
    ask: Callable[[Engine], Awaitable[str]]
    size: tuple[int, int] = SMALL


SCENARIOS = (
    Scenario("200 adaptive calls at once, 4 s each, 6 to 54 ms a call: answered in time", 0.006, adaptive),
    Scenario("3 calls behind 150 of another client, 54 ms each: the last answer after", 0.006, fairness),
    Scenario("calls of one step beside calls of eight: share of the device", 0.006, many_steps),
    Scenario("one call, a device that takes no time, 256x448: median", 1e-5, overhead, SIZE),
)


async def table(names: Sequence[str]) -> None:
    """Print the table, or its rows whose names have one of `names` in them."""
    print("| what | embedded | behind Redis |\n| --- | --- | --- |")
    with running() as server:
        for row in SCENARIOS:
            if names and not any(name in row.name for name in names):
                continue
            async with embedded(row.block_seconds, row.size) as engine:
                alone = await row.ask(engine)
            async with behind_redis(server, row.block_seconds, row.size) as engine:
                print(f"| {row.name} | {alone} | {await row.ask(engine)} |", flush=True)
        if not names or "burst" in names:
            print(f"| burst of 16 calls on four idle workers, of the ideal | - | {await burst(server)} |", flush=True)
        if not names or "claim" in names:
            print(f"| a claim at 2,000 waiting sizes, of Redis' thread | - | {await claim_cost(server)} |", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="rows with these words; burst; claim")
    startup.keep_freed_memory()
    uvloop.run(table(parser.parse_args().only))


if __name__ == "__main__":
    main()
