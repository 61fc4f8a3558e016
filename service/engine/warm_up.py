"""Runs a device on frames of noise and times it: what its cost models start from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from service.core.types import BLOCKS, Frame, Method, Options, PredictRequest, Route, RouteChoice, RoutePolicy
from service.engine.device import Device, DeviceWork, bucket_of
from service.engine.scheduling.cost_model import MeasuredRun

_ONE: Route = tuple(i == 0 for i in range(BLOCKS))
_FULL: Route = (True,) * BLOCKS
#: Work that is done soon is run this often at least, unless that takes longer, seconds.
LEAST_RUNS, LEAST_RUNS_S = 4, 0.5


def measure(
    device: Device,
    sizes: Sequence[tuple[int, int]],
    several: int,
    runs_before: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[MeasuredRun]:
    """Time each size (height, width): the quickest of `runs_before` runs and one more at least; in between, others run.

    By the network one block, all blocks, a routed frame and a batch of `several`; then every other method, and the
    live head. A mixture needs but one run before: it records nothing on a GPU.
    """
    for height, width in sizes:
        noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        previous, current = (Frame(np.ascontiguousarray(picture)) for picture in noise)

        def work(options: Options, route: Route | None = None, *, live: bool = False) -> DeviceWork:
            request = PredictRequest("warm-up", previous, current, options)  # noqa: B023  # used within this turn
            return DeviceWork(request, route, live=live)

        rows: list[tuple[Route | None, int]] = [(_ONE, 1), (_FULL, 1), (None, 1)]
        for route, count in rows + ([(_FULL, several)] if several > 1 else []):
            choice = RouteChoice() if route is None else RouteChoice(RoutePolicy.EXPLICIT, bits=route)
            by_route = work(Options(route=choice, method=Method.DMVFN), route)
            yield _quickest(device, [by_route] * count, runs_before, clock)
        mixtures = [method for method in device.info.methods if method is not Method.DMVFN]
        by_mixture = [work(Options(method=method)) for method in mixtures]
        by_live = [work(Options(method=Method.FLOW), live=True)] if mixtures else []
        for one in by_mixture + by_live:
            yield _quickest(device, [one], 1, clock)


def _quickest(device: Device, works: Sequence[DeviceWork], runs_before: int, clock: Callable[[], float]) -> MeasuredRun:
    """Return the quickest run: a machine on which much starts at once makes some runs longer, and none shorter.

    One that was held up would have the first requests refused: by their size it may stand for a thousand times as much.
    """
    measurements: list[MeasuredRun] = []
    begin = clock()
    request = works[0].request
    while len(measurements) <= runs_before or (len(measurements) < LEAST_RUNS and clock() - begin < LEAST_RUNS_S):
        start = clock()
        ran = device.run(works, lambda work: True)
        seconds = clock() - start
        bucket = bucket_of(request, device.info.method_for(request.options))
        measurements.append(ran.live or MeasuredRun(bucket, ran.load, seconds))
    return min(measurements, key=lambda run: run.seconds)
