"""Small real engines: the tests' stand for a GPU that is not the point here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import numpy as np

from service.core.errors import ServiceError
from service.core.interfaces import Readiness, ServedModel
from service.core.timings import Timings
from service.core.types import Frame, PredictRequest, PredictResult, Step

MODEL = ServedModel("tiny-1", "cpu", "float32", 1, "rgb", "none", "0" * 64)


def frame(value: int, height: int = 32, width: int = 48) -> Frame:
    """A picture of one value but for its first pixel."""
    pixels = np.full((height, width, 3), value, np.uint8)
    pixels[0, 0] = (1, 2, 3)
    return Frame(pixels)


class Adder:
    """Predicts previous + current, so that each answer tells its question. Does what `then` does in between."""

    def __init__(self) -> None:
        self.ready = Readiness(True)
        self.running = 0
        self.peak = 0
        self.seen: list[PredictRequest] = []
        self.gate: asyncio.Event | None = None
        self.error: Callable[[PredictRequest], ServiceError | None] = lambda request: None

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.seen.append(request)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if error := self.error(request):
                raise error
            return answer(request)
        finally:
            self.running -= 1

    def readiness(self) -> Readiness:
        return self.ready

    def model(self) -> ServedModel:
        return MODEL


def answer(request: PredictRequest) -> PredictResult:
    """What `Adder` says."""
    total = Frame(request.previous.pixels + request.current.pixels)
    step = Step(total, (True,) + (False,) * 8, 1000)
    return PredictResult(request.id, (step,) * request.options.steps, MODEL.version, Timings(blocks=0.001))


def alike(one: PredictResult, two: PredictResult) -> bool:
    """Whether two answers are the same, pixel by pixel."""
    values = [dataclasses.replace(r, steps=(), timings=Timings()) for r in (one, two)]
    fields = [(v.id, v.model_version, v.seed, v.shortened) for v in values]
    return fields[0] == fields[1] and all(
        (a.frame.pixels == b.frame.pixels).all() and (a.route, a.flops) == (b.route, b.flops)
        for a, b in zip(one.steps, two.steps, strict=True)
    )
