"""Who asks for what, and when: request kinds, and arrival times of a Poisson process with a rate that may change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from service.core.bucket import Bucket
from service.core.types import Frame, Options, PredictRequest, Quality, RouteChoice, RoutePolicy
from service.engine.device import bucket_of

#: Arrivals a second at a moment.
Rate = Callable[[float], float]

FULL = Options(route=RouteChoice(RoutePolicy.FULL))
ADAPTIVE = Options(route=RouteChoice(RoutePolicy.FULL), quality=Quality.ADAPTIVE)
#: Drawn from the shipped router's probabilities: costs differ, and are known only once the router has run.
SAMPLED = Options(route=RouteChoice(RoutePolicy.SAMPLE, seed=0))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request, due `budget` seconds after it came. Frames are black: only their size counts here."""

    request: PredictRequest
    budget: float

    @classmethod
    def of(cls, height: int, width: int, options: Options, budget: float) -> Kind:
        """Build a request for a pair of this size."""
        frame = Frame(np.zeros((height, width, 3), np.uint8))
        return cls(PredictRequest("simulated", frame, frame, options), budget)

    @property
    def bucket(self) -> Bucket:
        """Return the padded size of its frames."""
        return bucket_of(self.request)


def steady(rate: float, until: float, chance: random.Random) -> Iterator[float]:
    """Draw arrival times in seconds at one rate."""
    now = chance.expovariate(rate)
    while now < until:
        yield now
        now += chance.expovariate(rate)


def changing(rate: Rate, limit: float, until: float, chance: random.Random) -> Iterator[float]:
    """Draw arrival times in seconds at a rate that never exceeds `limit`, by thinning (Lewis and Shedler 1979)."""
    for now in steady(limit, until, chance):
        if chance.random() * limit < rate(now):
            yield now
