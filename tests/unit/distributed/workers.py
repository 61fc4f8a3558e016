"""A worker of this process, for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.distributed.frontend.queue_client import QueueClient
from service.distributed.worker.worker import Worker
from service.settings import Settings
from tests.unit.distributed.conftest import metrics, until
from tests.unit.distributed.engines import Adder


@asynccontextmanager
async def working(settings: Settings, engine: Adder, front: QueueClient) -> AsyncIterator[Worker]:
    """Ready when it begins, drained when it ends."""
    worker = Worker(settings, engine, metrics())
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: front.readiness().ready)
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)
