"""Has the engine predict a frame of the worker's own, to know whether its device is sound before a suspect runs.

Knows nothing of Redis or of what becomes of the suspect.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from service.core.errors import ServiceError
from service.core.interfaces import Engine
from service.core.types import Frame, Options, PredictRequest, RouteChoice, RoutePolicy
from service.serving.jobs.fate import RunEnd
from service.settings import Settings

log = logging.getLogger(__name__)

#: Sides of the frame where no size was warmed up, pixels.
SMALL = (64, 64)
#: Ends of the probe after which the suspect is not run at all.
HOPELESS = (RunEnd.DEVICE_LOST, RunEnd.STOPPED)


class DeviceProbe:
    """Probes the device behind `engine` with a frame of the first warm-up size, all blocks: milliseconds to a second.

    The engine's own metrics count it like any other prediction.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._engine, self._longest_s = engine, settings.max_run_s
        height, width = settings.warmup_sizes[0] if settings.warmup_sizes else SMALL
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._frame = Frame(np.ascontiguousarray(picture))

    async def passes(self) -> bool:
        """Return whether the device predicts the frame. Raises a ServiceError where the device is lost or draining."""
        request = PredictRequest(
            id="device-probe",
            previous=self._frame,
            current=self._frame,
            options=Options(route=RouteChoice(RoutePolicy.FULL)),
            deadline=time.monotonic() + self._longest_s,
        )
        try:
            await self._engine.predict(request)
        except ServiceError as error:
            if RunEnd.of(error) in HOPELESS:
                raise
            log.warning("the device did not answer its probe, which proves nothing: %s", error)
            return False
        return True
