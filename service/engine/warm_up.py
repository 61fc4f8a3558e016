"""Runs a device once for good measure and then timed, on frames of noise: what its cost models start from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from service.core.types import BLOCKS, Frame, Method, Options, PredictRequest, Route, RouteChoice, RoutePolicy
from service.engine.device import Device, DeviceWork, bucket_of
from service.engine.scheduling.cost_model import MeasuredRun

_ONE: Route = tuple(i == 0 for i in range(BLOCKS))
_FULL: Route = (True,) * BLOCKS


def measure(device: Device, sizes: Sequence[tuple[int, int]], several: int, runs_before: int) -> Iterator[MeasuredRun]:
    """Time each size (height, width) after `runs_before` runs that are not timed; between two, others may run.

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
            yield _timed(device, [by_route] * count, runs_before)
        mixtures = [method for method in device.info.methods if method is not Method.DMVFN]
        by_mixture = [work(Options(method=method)) for method in mixtures]
        by_live = [work(Options(method=Method.FLOW), live=True)] if mixtures else []
        for one in by_mixture + by_live:
            yield _timed(device, [one], 1)


def _timed(device: Device, works: Sequence[DeviceWork], runs_before: int) -> MeasuredRun:
    for _ in range(runs_before):
        device.run(works, lambda work: True)
    start = time.perf_counter()
    ran = device.run(works, lambda work: True)
    seconds = time.perf_counter() - start
    request = works[0].request
    return ran.live or MeasuredRun(bucket_of(request, device.info.method_for(request.options)), ran.load, seconds)
