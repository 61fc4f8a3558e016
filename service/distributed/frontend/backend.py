"""Everything a front end needs of the queue, started and stopped as one: calls, jobs and webhooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from service.core.interfaces import Readiness, ServedModel
from service.core.types import PredictRequest, PredictResult
from service.distributed.broker.client import end
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.frontend.limiter import RedisLimiter
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.frontend.webhooks import WebhookSender
from service.distributed.frontend.worker_versions import WorkerVersions
from service.settings import Settings
from service.telemetry.metrics import Background, Metrics


class FrontendEngine:
    """An `Engine` with the life of a `Batcher` (`start`, `close`), with `jobs` and `limiter` beside it."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = QueueClient(settings, metrics)
        self._engine = QueuedEngine(settings, self._front, metrics, clock)
        self._hooks = WebhookSender(settings, self._front, metrics)
        self._sending: asyncio.Task[None] | None = None
        self._metrics = metrics
        self.jobs = RedisJobs(settings, self._front)
        self.versions = WorkerVersions(self._front)
        self.limiter = RedisLimiter(self._front)

    async def start(self) -> None:
        """Return when Redis is there and a worker has been seen; until then `readiness` says what is missing.

        A queue that workers have served before is ready at once: what it holds is what calls for new ones.
        """
        await self._front.start()
        self._sending = self._front.supervisor.loop(Background.WEBHOOKS, self._hooks.run)
        self._metrics.watch(self._front.gauges)
        self._metrics.watch(self._front.server.gauges)
        await self._front.seen.wait()

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Predict as `Engine.predict` does."""
        return await self._engine.predict(request)

    def readiness(self) -> Readiness:
        """Return the readiness, as `Engine.readiness`."""
        return self._engine.readiness()

    def model(self) -> ServedModel:
        """Return the model, as `Engine.model`."""
        return self._engine.model()

    async def close(self) -> None:
        """Stop webhooks, withdrawals and the link to Redis; to be called once, also after a start that never ended."""
        if self._sending is not None:
            await end(self._sending)
        self._hooks.close()
        await self._engine.close()
        await self._front.stop()
