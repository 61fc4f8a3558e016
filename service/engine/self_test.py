"""Decides when a device that fails request after request is put to the test, and tests it with a frame of its own.

Called on the device thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from service.core.errors import Internal, ServiceError
from service.core.types import Frame, Method, Options, PredictRequest, PredictResult, RouteChoice, RoutePolicy
from service.engine.device import DeviceWork
from service.engine.fault_isolation import DeviceLost, Fault, classify
from service.engine.versions.loaded_devices import LoadedDevices

log = logging.getLogger(__name__)

#: Requests that failed on the device one after the other, without a success between them, before it is tested.
FAILURES = 3
#: Sides of the frame of the test where no size was warmed up.
SMALLEST = (64, 64)


class DeviceHealth:
    """Counts failures in a row; after FAILURES of them the device must predict a frame that it is known to predict."""

    def __init__(self, devices: LoadedDevices, size: tuple[int, int] = SMALLEST) -> None:
        """Prepare a frame of `size` (height, width): one that was warmed up, so that the test takes no longer."""
        self._devices, self._size = devices, size
        self._failures = 0

    def note(self, outcomes: Sequence[PredictResult | ServiceError]) -> None:
        """Remember how requests ended on the device; raise DeviceLost if it then fails its test.

        A success of the network's is proof enough of the device; flow alone runs on the processor and says nothing of
        it. Only Internal errors are failures, since all others say something of a request or of memory.
        """
        if any(isinstance(outcome, PredictResult) and outcome.method is not Method.FLOW for outcome in outcomes):
            self._failures = 0
            return
        self._failures += sum(isinstance(outcome, Internal) for outcome in outcomes)
        if self._failures >= FAILURES:
            self._failures = 0
            self._test()

    def _test(self) -> None:
        log.warning("%d requests in a row failed on the device; testing it with a frame of our own", FAILURES)
        picture = np.random.default_rng(0).integers(0, 256, (*self._size, 3), dtype=np.uint8)
        frame = Frame(np.ascontiguousarray(picture))
        request = PredictRequest("self-test", frame, frame, Options(route=RouteChoice(RoutePolicy.FULL)))
        try:
            (outcome,) = self._devices.first.run([DeviceWork(request)], lambda work: True).outcomes
        except Exception as error:
            if classify(error) is Fault.MEMORY:  # taken by others, it says nothing of the device
                self._devices.first.free()
                return
            raise DeviceLost(f"it failed {FAILURES} requests in a row and its own test: {error}") from error
        if isinstance(outcome, ServiceError):
            raise DeviceLost(f"it failed {FAILURES} requests in a row and its own test: {outcome}")
        log.info("the device passed its test; the requests that failed are at fault")
