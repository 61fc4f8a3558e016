"""The processes that chaos kills: a worker with the tiny network, and a front end over HTTP on a unix socket.

Imported once by a fork server, so that a new life costs milliseconds and not the seconds that torch takes to load.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import uvicorn
from prometheus_client import CollectorRegistry

from service.app_state import AppState
from service.core.types import Frame
from service.distributed.frontend.backend import FrontendEngine
from service.distributed.worker.worker import Worker
from service.engine.batcher import Batcher
from service.engine.device import DeviceWork
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, frames

#: Corners of a frame that harm whatever device they reach: they kill its process, break its context, exceed its memory.
POISON = (66, 6, 66)
BREAKER = (6, 66, 6)
GLUTTON = (66, 66, 6)
Mark = tuple[int, int, int]

STICKY = "CUDA error: an illegal memory access was encountered"
ZOMBIE = "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"


def picture(number: int, count: int, height: int, width: int, mark: Mark | None = None) -> list[Frame]:
    """The frames of job `number`: no two jobs have the same, so no answer can be taken for another's."""
    pixels: list[Frame] = []
    for k in range((count + 1) // 2):
        pixels += frames(1000 * number + k, height, width)
    if mark:
        marked = pixels[0].pixels.copy()
        marked[0, 0] = mark
        pixels[0] = Frame(marked)
    return pixels[:count]


class HarmedDevice:
    """What happens before each run of a worker's device, as a file named after its process or a frame's corner says.

    The file holds `sticky`, `zombie`, `oom N` (its next N runs) or `cold S` (S seconds at each size's first run).
    """

    def __init__(self, orders: Path) -> None:
        self._orders = orders
        self._broken = ""
        self._out_of_memory: dict[str, int] = {}
        self._sizes: set[tuple[int, ...]] = set()

    def before_run(self, works: Sequence[DeviceWork]) -> None:
        """Raises, sleeps, kills this process or does nothing."""
        corners = [tuple(int(v) for v in work.request.previous.pixels[0, 0]) for work in works]
        if POISON in corners:
            os.kill(os.getpid(), signal.SIGKILL)
        if BREAKER in corners:
            self._broken = STICKY
        self.obey()
        if GLUTTON in corners:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
        for size in {work.request.previous.pixels.shape for work in works} - self._sizes:
            self._sizes.add(size)
            if (order := self._order()).startswith("cold"):
                time.sleep(float(order.split()[1]))

    def obey(self) -> None:
        """Raises as the file says; once broken, it stays so."""
        order = self._order()
        if order in ("sticky", "zombie"):
            self._broken = STICKY if order == "sticky" else ZOMBIE
        if self._broken:
            raise RuntimeError(self._broken)
        if order.startswith("oom"):
            left = self._out_of_memory.setdefault(order, int(order.split()[1]))
            if left > 0:
                self._out_of_memory[order] = left - 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def _order(self) -> str:
        try:
            return self._orders.read_text()
        except OSError:
            return ""


def worker_main(settings: Settings, orders: str = "") -> None:
    """A worker's life; exits 0 after SIGTERM, 3 with a lost device. `orders`: folder of the files of HarmedDevice."""
    _quiet()
    torch.set_num_threads(1)
    # Until it has begun to work, there is nothing to hand back.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    harmed = HarmedDevice(Path(orders) / str(os.getpid()))

    def device() -> Rigged:
        rigged = Rigged()
        rigged.before_run = harmed.before_run
        rigged.before_warm_up = harmed.obey
        return rigged

    async def live() -> bool:
        metrics = Metrics(CollectorRegistry())
        engine = Batcher(device, settings, metrics)
        try:
            await engine.start()
        except RuntimeError:  # ordered while it started
            return False
        worker = Worker(settings, engine, metrics)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        sound = await worker.run()
        await engine.close()
        return sound

    if not asyncio.run(live()):
        sys.exit(3)


def front_main(settings: Settings, socket: str) -> None:
    """A front end's life; exits 0 after SIGTERM."""
    _quiet()

    async def live() -> None:
        metrics = Metrics(CollectorRegistry())
        remote = FrontendEngine(settings, metrics)
        starting = asyncio.create_task(remote.start())
        codecs = Codecs(FrameLimits.of(settings), 1, metrics)
        app = build(AppState(settings, remote, codecs, metrics), jobs=remote.jobs)
        config = uvicorn.Config(app, uds=socket, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
        await uvicorn.Server(config).serve()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await remote.close()
        codecs.close()

    asyncio.run(live())


def _quiet() -> None:
    # Chaos is the test: what it breaks is counted by its driver, not read from logs. CHAOS_LOG=1 shows them.
    logging.basicConfig(level=logging.WARNING if os.environ.get("CHAOS_LOG") else logging.CRITICAL + 1)
    np.seterr(all="ignore")
