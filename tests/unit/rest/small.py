"""A small real engine and service, in process: what the REST tests run against."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import numpy as np
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.app_state import AppState
from service.core.errors import ServiceError
from service.core.interfaces import Readiness, ServedModel
from service.core.timings import Timings
from service.core.types import BLOCKS, Frame, PredictRequest, PredictResult, Route, RoutePolicy, Step
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.settings import Settings
from service.telemetry.metrics import Metrics

MODEL = ServedModel("tiny-1", "cpu", "float32", 3_559_930, "bgr", "rendered clips", "00" * 32, {"psnr_t1": 26.2})


class ShiftEngine:
    """Predicts that everything moves one pixel down a step; `hold` delays it, `failure` refuses."""

    def __init__(self) -> None:
        self.requests: list[PredictRequest] = []
        self.ran: list[str] = []
        self.withdrawn: list[str] = []
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.state = Readiness(True)

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.withdrawn.append(request.id)
                raise
        self.ran.append(request.id)
        chosen = request.options.route
        route: Route = chosen.bits or tuple(i < (chosen.blocks or BLOCKS) for i in range(BLOCKS))
        maps = request.options.maps
        height, width = request.current.height, request.current.width
        steps = tuple(
            Step(
                Frame(np.roll(request.current.pixels, k, axis=0)),
                route,
                1000 * k,
                np.full((height, width, 4), k / 3, np.float32) if maps else None,
                np.full((height, width), 0.25, np.float32) if maps else None,
            )
            for k in range(1, (len(request.options.times) or request.options.steps) + 1)
        )
        seed = chosen.seed if chosen.policy is RoutePolicy.SAMPLE else None
        return PredictResult(request.id, steps, MODEL.version, Timings(0.001, 0.002, 0.003), 2, seed)

    def readiness(self) -> Readiness:
        return self.state

    def model(self) -> ServedModel:
        return MODEL


@dataclasses.dataclass(frozen=True, slots=True)
class Small:
    """A service, its engine, and a client that talks to it without a socket."""

    app: FastAPI
    parts: AppState
    engine: ShiftEngine
    http: httpx.AsyncClient

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value, 0 where it does not exist yet."""
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(
    settings: Settings | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Small]:
    """A small service for the length of a test."""
    settings = settings or Settings()
    metrics = Metrics(CollectorRegistry())
    engine = ShiftEngine()
    codecs = Codecs(FrameLimits.of(settings), 2, metrics)
    parts = AppState(settings, engine, codecs, metrics, clock)
    app = build(parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Small(app, parts, engine, http)
    codecs.close()


def a_failure(kind: type[ServiceError], **about: object) -> ServiceError:
    """An error of this kind, as an engine would raise it."""
    return kind("the engine says no", **about)  # type: ignore[arg-type]
