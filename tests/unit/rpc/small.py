"""The smallest real parts the edges can be tried with: an engine that extrapolates each pixel linearly."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from service.app_state import AppState
from service.core.errors import ServiceError
from service.core.interfaces import Readiness, ServedModel
from service.core.timings import Timings
from service.core.types import Frame, PredictRequest, PredictResult, RoutePolicy, Step
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.settings import Settings
from service.telemetry.metrics import Metrics

INFO = ServedModel("small-1", "cpu", "float32", 0, "rgb", "none", "0" * 64)


def extrapolated(previous: np.ndarray, current: np.ndarray, steps: int) -> list[np.ndarray]:
    """What SmallEngine predicts: twice the newer less the older, modulo 256."""
    frames = []
    for _ in range(steps):
        previous, current = current, (2 * current.astype(np.int16) - previous).astype(np.uint8)
        frames.append(current)
    return frames


def carried(previous: np.ndarray, current: np.ndarray, t: float) -> np.ndarray:
    """What SmallEngine predicts for a moment: each pixel goes on as it did, modulo 256."""
    change = current.astype(np.float64) - previous
    return np.asarray(np.round(current + t * change).astype(np.int64) % 256, np.uint8)


class SmallEngine:
    """Answers while `gate` is open; raises `failure` instead if one is set; keeps what it was asked."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.state = Readiness(True)
        self.asked: list[PredictRequest] = []
        self.withdrawn: list[str] = []
        self.running = 0

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.asked.append(request)
        self.running += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.withdrawn.append(request.id)
            raise
        finally:
            self.running -= 1
        if self.failure is not None:
            raise self.failure
        choice = request.options.route
        route = choice.bits or (True,) * (choice.blocks or 9) + (False,) * (9 - (choice.blocks or 9))
        previous, current, times = request.previous.pixels, request.current.pixels, request.options.times
        if times:
            return PredictResult(
                request.id,
                tuple(Step(Frame(carried(previous, current, t)), route, 1000, t=t) for t in times),
                INFO.version,
                Timings(0.001, 0.002, 0.003),
            )
        frames = extrapolated(previous, current, request.options.steps)
        return PredictResult(
            request.id,
            tuple(Step(Frame(pixels), route, 1000 + k, *self._maps(request)) for k, pixels in enumerate(frames)),
            INFO.version,
            Timings(0.001, 0.002, 0.003),
            seed=choice.seed if choice.policy is RoutePolicy.SAMPLE else None,
        )

    def _maps(self, request: PredictRequest) -> tuple[Any, Any]:
        if not request.options.maps:
            return None, None
        height, width = request.current.height, request.current.width
        return np.zeros((height, width, 4), np.float32), np.full((height, width), 0.5, np.float32)

    def readiness(self) -> Readiness:
        return self.state

    def model(self) -> ServedModel:
        return INFO

    def fails(self, error: ServiceError) -> None:
        self.failure = error


def parts(engine: Any, **settings: Any) -> AppState:
    """Parts around an engine; keyword arguments are settings."""
    chosen = dataclasses.replace(Settings(), **{"http_port": 0, "grpc_port": 0, "codec_threads": 1, **settings})
    metrics = Metrics(CollectorRegistry())
    return AppState(chosen, engine, Codecs(FrameLimits.of(chosen), chosen.codec_threads, metrics), metrics)


def picture(seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
