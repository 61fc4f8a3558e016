"""Front ends that keep and make clips over one Redis, in this process, each with a client that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from service.app_state import AppState
from service.backends import DrainingEngine
from service.distributed.broker.client import end
from service.distributed.frontend.backend import FrontendEngine
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.rest.routes import video
from service.serving.jobs.clip_makers import ClipMakers
from service.serving.video.clip_resources import ClipResources
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.conftest import metrics, until

ANN, BOB = {"Authorization": "Bearer ann-s-key-1"}, {"Authorization": "Bearer bob-s-key-1"}
KEYS = (("ann", "ann-s-key-1"), ("bob", "bob-s-key-1"))
LATER = {"Prefer": "respond-async", "Accept": "video/x-yuv4mpeg2"}


@dataclass
class ClipHouse:
    """One front end; `makers` run from `make` on."""

    http: httpx.AsyncClient
    front: FrontendEngine
    makers: ClipMakers
    metrics: Metrics
    state: AppState
    making: asyncio.Task[None] | None = None

    def make(self) -> None:
        """Begin to make clips, once a worker has been seen."""
        self.making = asyncio.create_task(self._make())

    async def _make(self) -> None:
        await until(lambda: self.front.readiness().ready, 60)
        await self.makers.run()

    async def die(self, monkeypatch: Any) -> None:
        """Make no more, and tell nobody: as a process that is killed."""

        async def silence(lease: Any, **words: Any) -> None:
            await lease._stop()

        with monkeypatch.context() as patch:
            patch.setattr("service.distributed.frontend.clip_queue.RedisClipLease.give_back", silence)
            await self.stop()

    async def stop(self) -> None:
        """Make no more; what is under way is given back."""
        if self.making is not None:
            await end(self.making)
            self.making = None

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def post(self, body: bytes, who: dict[str, str] = ANN, query: str = "every=2", **more: str) -> httpx.Response:
        headers = {**LATER, **who, **{name.replace("_", "-"): value for name, value in more.items()}}
        return await self.http.post(f"/v1/video?{query}", content=body, headers=headers)

    async def get(self, path: str, who: dict[str, str] = ANN, **more: str) -> httpx.Response:
        return await self.http.get(path, headers={**who, **more})

    async def comes_to(self, path: str, state: str, who: dict[str, str] = ANN) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (shown := (await self.get(f"{path}?wait=5", who)).json()).get("state") != state:
                assert shown.get("state") in ("queued", "running"), shown
        return dict(shown)


@asynccontextmanager
async def clip_house(settings: Settings) -> AsyncIterator[ClipHouse]:
    """A front end that is ready once a worker lives."""
    instruments = metrics()
    front = FrontendEngine(settings, instruments)
    starting = asyncio.create_task(front.start())
    codecs = Codecs(FrameLimits.of(settings), 1, instruments)
    state = AppState(settings, DrainingEngine(front), codecs, instruments)
    resources = ClipResources(state)
    clip_routes = video.router(state, resources, front.clips, front.jobs)
    app = build(state, (clip_routes,), jobs=front.jobs, clips=front.clips)
    makers = ClipMakers(front.clip_queue, resources, state.work, instruments)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        house = ClipHouse(http, front, makers, instruments, state)
        try:
            yield house
        finally:
            await house.stop()
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await front.close()
            codecs.close()
