"""A tiny network, requests for it, and a device whose faults a test decides. Real parts, small."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from service.core.bucket import Bucket
from service.core.interfaces import ServedModel
from service.core.types import Frame, Options, PredictRequest, PredictResult, Priority
from service.engine.batcher import Batcher
from service.engine.device import ChosenRoute, Device, DeviceWork, Flops, RunOutput
from service.engine.predictor import Predictor
from service.engine.scheduling.cost_model import MeasuredRun
from service.settings import Settings
from service.telemetry.metrics import Metrics

#: Deadline of the conditions tests wait for, seconds: far beyond what a loaded machine needs.
PATIENCE = 60.0
#: Deadline of requests that state none, ms: hundreds at once take longer than the service's own default there.
PATIENT_MS = 600_000


def network(seed: int = 0) -> DMVFN:
    """A tiny network whose blocks really move pixels (fresh weights hardly do) and whose routes vary by frame."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = DMVFN(ModelConfig.tiny())
        with torch.no_grad():
            for i in range(made.config.blocks):
                made.block(i).lastconv.weight.mul_(4)
            made.l1.weight.mul_(100)
    return made.eval()


def predictor(rows_per_call: int = 0, dtype: str = "float32") -> Predictor:
    return Predictor(network(), device="cpu", threads=1, rows_per_call=rows_per_call, dtype=dtype)


@cache
def measured_once(sizes: tuple[tuple[int, int], ...]) -> list[MeasuredRun]:
    """Warm a predictor up, once in a process: what runs of these sizes take is the same for the next one."""
    return list(predictor().warm_up(sizes))


def frames(seed: int, height: int, width: int) -> tuple[Frame, Frame]:
    """Two smooth pictures, the second a little shifted; each seed has colours of its own."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.5, 3.0, (3, 4))
    colours = rng.uniform(0.2, 0.8, 3)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)

    def picture(shift: float) -> Frame:
        planes = [np.sin(7 * (a * (x + shift) + b * y) + c) * np.cos(5 * d * y) for a, b, c, d in waves]
        values = colours + 0.2 * np.stack(planes, 2)
        return Frame(np.ascontiguousarray((values * 255).astype(np.uint8)))

    return picture(0.0), picture(rng.uniform(0.01, 0.05))


def request(
    seed: int = 0,
    height: int = 32,
    width: int = 48,
    *,
    deadline: float | None = None,
    client: str = "",
    priority: Priority = Priority.LIVE,
    id: str | None = None,
    options: Options | None = None,
) -> PredictRequest:
    previous, current = frames(seed, height, width)
    return PredictRequest(
        str(seed) if id is None else id,
        previous,
        current,
        options or Options(),
        deadline=deadline,
        client=client,
        priority=priority,
    )


class Rigged:
    """A device that does what a test says before it does what the real one does. Counts what it ran."""

    def __init__(self, real: Device | None = None) -> None:
        self.real = real or predictor()
        self._usual = real is None
        self.before_run: Callable[[Sequence[DeviceWork]], None] = lambda works: None
        self.before_routes: Callable[[Sequence[PredictRequest]], None] = lambda requests: None
        self.before_warm_up: Callable[[], None] = lambda: None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []
        self.routed: list[str] = []
        self.freed = 0
        self.rows = 1024  # so that a batch reaches `run` whole
        self.table: list[MeasuredRun] | None = None

    @property
    def info(self) -> ServedModel:
        return self.real.info

    @property
    def weights_of_blocks(self) -> tuple[float, ...]:
        return self.real.weights_of_blocks

    @property
    def weight_of_routing(self) -> float:
        return self.real.weight_of_routing

    @property
    def ran(self) -> list[str]:
        """Ids that reached the device, in order."""
        return [id for batch in self.batches for id in batch]

    def hold(self) -> None:
        """From now on the device stands still inside its next run until `release`."""
        self.entered.clear()
        self.open.clear()

    def release(self) -> None:
        self.open.set()

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> list[MeasuredRun]:
        self.before_warm_up()
        if self.table is not None:
            return self.table
        return list(measured_once(tuple(sizes)) if self._usual else self.real.warm_up(sizes))

    def flops(self, bucket: Bucket) -> Flops:
        return self.real.flops(bucket)

    def routes(self, requests: Sequence[PredictRequest]) -> list[ChosenRoute]:
        self.before_routes(requests)
        self.routed += [asked.id for asked in requests]
        return self.real.routes(requests)

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        self.batches.append([work.request.id for work in works])
        self.entered.set()
        if not self.open.wait(PATIENCE):
            raise RuntimeError("the test forgot to release the device")
        self.before_run(works)
        return self.real.run(works, keep)

    def knows_motion(self, request: PredictRequest) -> bool:
        return self.real.knows_motion(request)

    def free(self) -> None:
        self.freed += 1

    def memory(self) -> tuple[int, int] | None:
        return 3, 4


@contextlib.asynccontextmanager
async def batching(
    device: Device | None = None,
    *,
    metrics: Metrics | None = None,
    on_fatal: Callable[[BaseException], None] | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Batcher]:
    """A running batcher; closed at the end, and with it the device released if it is rigged."""
    made = device or predictor()
    batcher = Batcher(
        lambda: made,
        settings or Settings(warmup_sizes=((32, 48),), default_deadline_ms=PATIENT_MS),
        metrics or Metrics(CollectorRegistry()),
        on_fatal=on_fatal,
    )
    await batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(made, Rigged):
            made.release()
        await batcher.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, or fail; the event loop runs on."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.001)


async def held(device: Rigged, batcher: Batcher) -> asyncio.Task[PredictResult]:
    """Keep the device busy with a first request, so that what comes next waits; answers its task."""
    device.hold()
    first = asyncio.create_task(batcher.predict(request(999, id="first")))
    await until(device.entered.is_set)
    return first


def count(metrics: Metrics, name: str, **labels: str) -> float:
    """A sample's value, 0 where it was never touched."""
    return metrics.registry.get_sample_value(f"dmvfn_{name}", labels) or 0.0


def same(one: PredictResult, other: PredictResult) -> bool:
    """Whether two answers show the same pictures by the same routes."""
    return len(one.steps) == len(other.steps) and all(
        a.route == b.route and np.array_equal(a.frame.pixels, b.frame.pixels)
        for a, b in zip(one.steps, other.steps, strict=True)
    )
