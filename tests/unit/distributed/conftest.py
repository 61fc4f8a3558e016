"""A private server, a front end and workers, all real, for every test that asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from service.distributed.broker.keys import Keys
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.worker.worker import Worker
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server, running, shipped_acl


@pytest.fixture
def server() -> Iterator[Server]:
    # As deployed: a right that the service needs and its ACL user lacks must show here.
    with running(acl=shipped_acl()) as server:
        yield server


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(engine="redis", redis_url=server.url, lease_ms=600, shutdown_grace_s=5.0, max_run_s=30.0)


def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Polls; fails the test if it never holds."""
    deadline = time.monotonic() + seconds
    while True:
        held = condition()
        if not isinstance(held, bool):
            held = await held
        if held:
            return
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.005)


@dataclass
class Bench:
    """A front end and its engine; `work` runs a worker beside it."""

    settings: Settings
    front: QueueClient
    engine: QueuedEngine
    metrics: Metrics
    keys: Keys
    workers: list[Worker] = field(default_factory=list)

    @asynccontextmanager
    async def work(self, engine: Adder, settings: Settings | None = None) -> AsyncIterator[Worker]:
        worker = Worker(settings or self.settings, engine, self.metrics)
        running = asyncio.create_task(worker.run())
        try:
            await until(lambda: self.front.readiness().ready)
            yield worker
        finally:
            worker.stop()
            assert await asyncio.wait_for(running, 60) is engine.ready.ready

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def empty(self) -> bool:
        """Whether nothing of any item is left: no stream, no frames, no count."""
        left = [key async for key in self.front.client.scan_iter(match="*") if _is_work(key.decode())]
        load = await self.front.client.hvals(self.keys.load)
        return not left and all(int(value) == 0 for value in load)


def _is_work(key: str) -> bool:
    return key.partition("}:")[2].startswith(("s:", "p:", "a:"))


@asynccontextmanager
async def bench_of(settings: Settings) -> AsyncIterator[Bench]:
    """A front end that is there during the block."""
    instruments = metrics()
    front = QueueClient(settings, instruments)
    engine = QueuedEngine(settings, front, instruments)
    await front.start()
    try:
        yield Bench(settings, front, engine, instruments, front.keys)
    finally:
        await engine.close()
        await front.stop()


@pytest_asyncio.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    async with bench_of(settings) as bench:
        yield bench
