"""Everything a front end needs of the queue, started and stopped as one: calls, jobs and webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from service.core.errors import Unavailable
from service.core.interfaces import Readiness, ServedModel
from service.core.types import PredictRequest, PredictResult
from service.distributed.broker.blob_store import blob_store
from service.distributed.broker.client import FAILED, end
from service.distributed.broker.clip_objects import ClipObjects, RedisClipObjects
from service.distributed.broker.stored_clip_objects import StoredClipObjects
from service.distributed.frontend.clip_queue import RedisClipQueue
from service.distributed.frontend.clip_store import RedisClips
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.frontend.limiter import RedisLimiter
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.frontend.webhooks import WebhookSender
from service.distributed.frontend.worker_versions import WorkerVersions
from service.settings import Settings
from service.telemetry.metrics import Background, Metrics

#: Seconds between two looks for what clips have left behind.
SWEEP_S = 600.0


class FrontendEngine:
    """An `Engine` with the life of a `Batcher` (`start`, `close`), with `jobs` and `limiter` beside it."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = QueueClient(settings, metrics, clock=clock)
        self._engine = QueuedEngine(settings, self._front, metrics, clock)
        self._hooks = WebhookSender(settings, self._front, metrics)
        self._sending: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._metrics = metrics
        self.jobs = RedisJobs(settings, self._front)
        blobs, link, keys, watchers = blob_store(settings), self._front.client, self._front.keys, self.jobs.watchers
        objects: ClipObjects = RedisClipObjects(link, keys)
        if blobs is not None:
            objects = StoredClipObjects(blobs, link, keys)
        self._objects = objects
        self.clips = RedisClips(settings, self._front, objects, watchers, metrics)
        self.clip_queue = RedisClipQueue(settings, self._front, objects, watchers)
        self.versions = WorkerVersions(self._front)
        self.limiter = RedisLimiter(self._front)

    async def start(self) -> None:
        """Return when Redis is there and a worker has been seen; until then `readiness` says what is missing.

        A queue that workers have served before is ready at once: what it holds is what calls for new ones.
        """
        await self._front.start()
        self._sending = self._front.supervisor.loop(Background.WEBHOOKS, self._hooks.run)
        self._sweeping = self._front.supervisor.loop(Background.CLIP_SWEEP, self._sweep)
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

    async def _sweep(self) -> None:
        """Remove what clips that are gone have left in a store elsewhere, for ever."""
        while True:
            with contextlib.suppress(*FAILED, Unavailable):
                await self._objects.sweep()
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Stop webhooks, withdrawals and the link to Redis; to be called once, also after a start that never ended."""
        await end(*(task for task in (self._sending, self._sweeping) if task is not None))
        self._hooks.close()
        await self._engine.close()
        await self._front.stop()
