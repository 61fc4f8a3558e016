"""The processes that chaos kills: a worker with the tiny network, and a front end over HTTP on a unix socket.

Imported once by a fork server, so that a new life costs milliseconds and not the seconds that torch takes to load.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence

import numpy as np
import torch
import uvicorn
from prometheus_client import CollectorRegistry

from service.core.codec import Limits
from service.core.types import Frame
from service.engine.batcher import Batcher
from service.engine.codecs import Codecs
from service.engine.device import Work
from service.jobs.remote import Remote
from service.jobs.worker import Worker
from service.metrics import Metrics
from service.parts import Parts
from service.rest.app import build
from service.settings import Settings
from tests.engine.tiny import Rigged, frames

#: The corner of a frame that kills whatever device it reaches.
POISON = (66, 6, 66)


def picture(number: int, count: int, height: int, width: int, poison: bool) -> list[Frame]:
    """The frames of job `number`: no two jobs have the same, so no answer can be taken for another's."""
    pixels: list[Frame] = []
    for k in range((count + 1) // 2):
        pixels += frames(1000 * number + k, height, width)
    if poison:
        marked = pixels[0].pixels.copy()
        marked[0, 0] = POISON
        pixels[0] = Frame(marked)
    return pixels[:count]


def worker_main(settings: Settings) -> None:
    """A worker's life; exits 0 after SIGTERM."""
    _quiet()
    torch.set_num_threads(1)

    def die_of_poison(works: Sequence[Work]) -> None:
        if any((work.request.previous.pixels[0, 0] == POISON).all() for work in works):
            os.kill(os.getpid(), signal.SIGKILL)

    def device() -> Rigged:
        rigged = Rigged()
        rigged.before_run = die_of_poison
        return rigged

    async def live() -> None:
        metrics = Metrics(CollectorRegistry())
        engine = Batcher(device, settings, metrics)
        await engine.start()
        worker = Worker(settings, engine, metrics)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()
        await engine.close()

    asyncio.run(live())


def front_main(settings: Settings, socket: str) -> None:
    """A front end's life; exits 0 after SIGTERM."""
    _quiet()

    async def live() -> None:
        metrics = Metrics(CollectorRegistry())
        remote = Remote(settings, metrics)
        starting = asyncio.create_task(remote.start())
        codecs = Codecs(Limits.of(settings), 1, metrics)
        app = build(Parts(settings, remote, codecs, metrics), jobs=remote.jobs)
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
