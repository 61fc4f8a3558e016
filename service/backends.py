"""The two sources of predictions, as a process starts and stops them: its own device, or workers behind Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from service import startup
from service.core.errors import Unavailable
from service.core.interfaces import Engine, ModelRepository, Readiness, ServedModel, VersionScores
from service.core.types import PredictRequest, PredictResult
from service.serving.accepted_work import AcceptedWork
from service.serving.access import ChargingEngine, Limiter, LocalLimiter
from service.serving.jobs.clip_jobs import ClipJobs
from service.serving.jobs.clip_queue import ClipQueue
from service.serving.jobs.job import Jobs
from service.settings import Settings
from service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from service.engine.request_queue import RequestQueue


class Backend(Protocol):
    """An engine and its jobs, from `start` to `close`."""

    @property
    def engine(self) -> Engine: ...

    @property
    def jobs(self) -> Jobs: ...

    @property
    def repository(self) -> ModelRepository | None: ...

    @property
    def version_scores(self) -> VersionScores | None: ...

    @property
    def limiter(self) -> Limiter: ...

    @property
    def clips(self) -> ClipJobs | None:
        """Return what keeps clips as jobs; None: the edge's process."""
        ...

    @property
    def clip_queue(self) -> ClipQueue | None:
        """Return the clips that this process may make; None where nothing shares them."""
        ...

    async def start(self) -> None:
        """Return when it can predict, or (over Redis) has begun to look for workers."""
        ...

    async def close(self) -> None:
        """Release everything; to be called once, whatever `start` did."""
        ...


class LocalBackend:
    """A device in this process; jobs end with it."""

    def __init__(self, settings: Settings, metrics: Metrics, on_fatal: Callable[[BaseException], None]) -> None:
        startup.begin("loading torch and the engine")
        # Here, not above: a front end over Redis never loads torch (tests/test_arrows.py).
        from service.engine.batcher import Batcher
        from service.engine.predictor import Predictor
        from service.engine.versions.source import CheckpointSource
        from service.serving.jobs.local import LocalJobs

        source = CheckpointSource(settings)
        self._batcher = Batcher(lambda: Predictor.of(settings), settings, metrics, on_fatal=on_fatal, source=source)
        self.clips: ClipJobs | None = None
        self.clip_queue: ClipQueue | None = None
        self.limiter = LocalLimiter(time.monotonic)
        self.engine = ChargingEngine(self._batcher, self.limiter.charge)
        self.repository: ModelRepository | None = self._batcher.versions
        self.version_scores: VersionScores | None = self._batcher.versions
        self._others = settings.versions[1:]
        self.jobs = LocalJobs(settings, self.engine, metrics)
        if settings.device_peak_flops:
            metrics.device_peak(settings.dtype, settings.device_peak_flops)

    @property
    def scheduling(self) -> RequestQueue:
        """Return the device's scheduling, for a worker that feeds it."""
        return self._batcher.scheduling

    async def start(self) -> None:
        """Load the weights and warm up: the default version, then those that stand beside it."""
        startup.begin("reading the weights, then warming up")
        await self._batcher.start()
        for version in self._others:
            await self._batcher.versions.load(version, share=0.0)

    async def close(self) -> None:
        """Close the jobs, then the engine that they use."""
        await self.jobs.close()
        await self._batcher.close()


class RedisBackend:
    """Workers elsewhere, found through Redis; jobs outlive this process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        startup.begin("looking for Redis and a worker")
        from service.distributed.frontend import backend

        self.engine = backend.FrontendEngine(settings, metrics)
        self.jobs = self.engine.jobs
        self.repository: ModelRepository | None = self.engine.versions
        self.version_scores: VersionScores | None = None
        self.limiter = self.engine.limiter
        self.clips: ClipJobs | None = self.engine.clips
        self.clip_queue: ClipQueue | None = self.engine.clip_queue

    async def start(self) -> None:
        """Return when Redis is there and a worker has been seen; readiness tells meanwhile."""
        await self.engine.start()

    async def close(self) -> None:
        """Close the link to Redis; withdrawals under way reach it first."""
        await self.engine.close()


class DrainingEngine:
    """The engine as edges see it, with a drain in three moves: not ready; refusing; idle.

    Between the first two lies the time that load balancers need to notice. What was accepted before
    (`accepted`) is counted to its end, and may predict as long as it lasts. `is_starting`: not ready before
    `finish_start` either, whatever the engine says: what the process does last at its start would stop every request.
    """

    def __init__(self, engine: Engine, work: AcceptedWork | None = None, *, is_starting: bool = False) -> None:
        self._engine = engine
        self._work = work or AcceptedWork()
        self._is_draining, self._is_starting = False, is_starting
        self.debug = getattr(engine, "debug", None)
        self.warnings: Callable[[], tuple[str, ...]] = tuple  #: what an operator should mend beside the engine

    def finish_start(self) -> None:
        """Report the engine's readiness from now on."""
        self._is_starting = False

    def stop_advertising(self) -> None:
        """Report not ready from now on, though requests that come are still taken."""
        self._is_draining = True

    async def drain(self, grace: float) -> bool:
        """Take no more; return whether all that was taken was answered within `grace` seconds."""
        self._is_draining = True
        self._work.refuse_new()
        try:
            async with asyncio.timeout(grace):
                await self._work.finished()
        except TimeoutError:
            return False
        return True

    def accepted(self) -> AbstractContextManager[None]:
        """Count the block as accepted work, from its beginning to its end: as `AcceptedWork.accepted`."""
        return self._work.accepted()

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Predict as the engine does; Unavailable once it drains, but for work that was accepted before."""
        if self._work.stopping.is_set() and not self._work.inside:
            raise Unavailable("the service is shutting down", reason="draining", retry_after=1.0)
        with self._work.accepted():
            return await self._engine.predict(request)

    def readiness(self) -> Readiness:
        """Return the engine's readiness with this object's warnings, or not ready (draining, starting)."""
        if self._is_draining:
            return Readiness(False, "draining")
        state = self._engine.readiness()
        if self._is_starting and state.ready:
            state = replace(state, ready=False, reason="starting")
        warnings = self.warnings()
        return replace(state, warnings=(*state.warnings, *warnings)) if warnings else state

    def model(self) -> ServedModel:
        """Return the engine's model."""
        return self._engine.model()
