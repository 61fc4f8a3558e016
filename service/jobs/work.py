"""`python -m service work`: one device, served from the queue until a signal."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal

from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.jobs.worker import Worker
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)

#: Exit statuses, as those of `serve`.
EXIT_OK, EXIT_FAILED, EXIT_DEVICE_LOST = 0, 1, 3


async def work(settings: Settings, metrics: Metrics) -> int:
    """Until SIGTERM or SIGINT (finishes what is claimed; a second one leaves at once); the process's exit status.

    Raises what the device raised if it cannot be built.
    """
    # Clients were counted at the door; here the items of one client may fill the device.
    here = dataclasses.replace(settings, max_client_items=0)
    engine = Batcher(lambda: Predictor.of(here), here, metrics)
    try:
        await engine.start()
        worker = Worker(here, engine, metrics)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _signalled, number, worker, metrics)
        log.info("worker %s takes work from %s", worker.name, settings.redis_queue)
        sound = await worker.run()
    finally:
        await engine.close()
    return EXIT_OK if sound else EXIT_DEVICE_LOST


def _signalled(number: signal.Signals, worker: Worker, metrics: Metrics) -> None:
    if worker.stopping:
        log.warning("second %s: leaving at once; leases run out and others do the work", number.name)
        os._exit(EXIT_FAILED)
    log.info("%s: draining", number.name)
    metrics.draining()
    worker.stop()
