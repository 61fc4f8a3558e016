"""Measures on this machine what a simulation needs to know of it: the network, and the way over Redis.

The network runs as the service runs it: `service.engine.predictor`, hence `model.inference.predict`, with the shipped
weights.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import machine, redis_overhead
from service.core.types import BLOCKS, Frame, Options, PredictRequest, RouteChoice, RoutePolicy
from service.engine.device import DeviceWork
from service.engine.predictor import Predictor
from service.settings import Settings
from simulator.calibration.table import Redis, Run, Table, bits

#: Routes that tell a pass from its blocks: one, four as the paper's average, all nine.
ROUTES = ("100000000", "100110100", "1" * BLOCKS)
SIZES = ((256, 448), (512, 1024), (720, 1280))
CLIPS = (Path("samples"), Path("service/rest/demo/clips/hills"), Path("service/rest/demo/clips/lanterns"))


def measure(seconds: float, command: str) -> Table:
    """Measure runs, routing, spread, probabilities and Redis; about `seconds` for each size."""
    predictor = Predictor.of(Settings(default_method="dmvfn"))
    runs: list[Run] = []
    routing: dict[str, float] = {}
    spread: list[float] = []
    for height, width in SIZES:
        for row, ratios in _network(predictor, height, width, seconds):
            runs.append(row)
            spread += ratios
        pair = _pair(height, width, RouteChoice())
        times = _times(lambda pair=pair: predictor.routes([pair]), seconds / 6)  # type: ignore[misc]
        routing[f"{height}x{width}"] = statistics.median(times)
    return Table(
        machine=machine.describe(),
        command=command,
        runs=tuple(runs),
        routing=routing,
        spread=tuple(np.quantile(spread, np.linspace(0.005, 0.995, 100)).tolist()),
        probabilities=_probabilities(predictor),
        redis=tuple(_redis(height, width) for height, width in SIZES),
    )


def _network(predictor: Predictor, height: int, width: int, seconds: float) -> list[tuple[Run, list[float]]]:
    results = []
    kinds = [(route, 1, False) for route in ROUTES] + [(ROUTES[-1], 4, False), ("", 1, True)]
    for route, rows, with_routing in kinds:
        choice = RouteChoice() if with_routing else RouteChoice(RoutePolicy.EXPLICIT, bits=bits(route))
        works = [DeviceWork(_pair(height, width, choice)) for _ in range(rows)]
        ran = predictor.run(works, lambda work: True)
        times = _times(lambda works=works: predictor.run(works, lambda work: True), seconds / 6)  # type: ignore[misc]
        middle = statistics.median(times)
        digits = route or "".join("1" if pixels else "0" for pixels in ran.load.blocks)
        results.append((Run(height, width, digits, rows, with_routing, middle), [each / middle for each in times]))
    return results


def _pair(height: int, width: int, choice: RouteChoice) -> PredictRequest:
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    previous, current = (Frame(np.ascontiguousarray(picture)) for picture in noise)
    return PredictRequest("measured", previous, current, Options(route=choice))


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    """Time each run in seconds, after one that is not counted; at least six."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 6 or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _probabilities(predictor: Predictor) -> tuple[float, ...]:
    """Average the router's probabilities over the repository's clips."""
    rows = []
    for folder in CLIPS:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".webp"))
        frames = [Frame(np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB")))) for path in files]
        pairs = [PredictRequest("clip", older, newer) for older, newer in itertools.pairwise(frames)]
        rows += [choice.probabilities for choice in predictor.routes(pairs) if choice.probabilities]
    return tuple(np.mean(rows, axis=0).tolist())


def _redis(height: int, width: int) -> Redis:
    alone = asyncio.run(redis_overhead.alone(height, width, 40))
    return Redis(height, width, alone.clients / 1000, alone.server / 1000)
