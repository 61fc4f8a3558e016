"""The service as a process whose device fails as a test says: everything real but what `run` does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

from service.engine.device import DeviceWork
from service.settings import Settings
from tests.system.e2e import forks
from tests.unit.engine.tiny import Rigged


def sticky(works: Sequence[DeviceWork]) -> None:
    """A CUDA context that answers nothing but errors from now on."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def hung(works: Sequence[DeviceWork]) -> None:
    """A call that never returns."""
    threading.Event().wait()


FAULTS: dict[str, Callable[[Sequence[DeviceWork]], None]] = {"sticky": sticky, "hung": hung}


def start(fault: str, settings: Settings) -> BaseProcess:
    """A running process; its exit status is the service's."""
    process = forks.context().Process(target=_live, args=(fault, settings), daemon=True)
    process.start()
    return process


def _live(fault: str, settings: Settings) -> None:
    from service import app
    from service.engine.predictor import Predictor

    logging.basicConfig(level=logging.CRITICAL + 1)
    device = Rigged()
    device.before_run = FAULTS[fault]
    Predictor.of = classmethod(lambda cls, settings: device)  # type: ignore[method-assign,assignment]
    sys.exit(asyncio.run(app.serve(settings, announce=lambda line: None)))
