"""The networks on one device, one for each loaded version, by the number of its weights.

Used by the device thread only, except where it says otherwise.
"""

from __future__ import annotations

import ctypes
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

from service.core.bucket import Bucket
from service.core.interfaces import ServedModel
from service.core.types import PredictRequest
from service.engine.device import Device
from service.engine.fault_isolation import DeviceLost, Fault, classify
from service.engine.scheduling.cold_runs import ColdRuns
from service.engine.scheduling.cost_model import MeasuredRun
from service.engine.scheduling.pricing import DeviceCosts

log = logging.getLogger(__name__)


class LoadedDevices:
    """Devices that share what they run on. The first has the number 0."""

    def __init__(self, first: Device, costs: DeviceCosts, cold: ColdRuns) -> None:
        self.first = first  #: or, once that is gone, the oldest that is left
        self._devices = {0: first}
        self._costs, self._cold = costs, cold

    def __len__(self) -> int:
        return len(self._devices)

    def of(self, bucket: Bucket) -> Device:
        """Return the device that runs requests of this bucket."""
        return self._devices[bucket.weights]

    def knows_motion(self, bucket: Bucket, request: PredictRequest) -> bool:
        """Tell whether the weights of `bucket` found the motion before a request's pair. Called from any thread."""
        device = self._devices.get(bucket.weights)
        return device is not None and device.knows_motion(request)

    def install(
        self,
        number: int,
        like: int,
        build: Callable[[], Device],
        sizes: Sequence[tuple[int, int]],
        report: Callable[[ServedModel | Exception], None],
    ) -> Iterator[None]:
        """Build a device and warm it up, with a pause after each run; then tell `report`, and have it under `number`.

        It is expected to cost what the weights numbered `like` do, and what the warm-up measures. `report` gets the
        error where this fails, and nothing has changed. Raises DeviceLost where no other device can work either.
        """
        device = None
        try:
            device = build()
            self._costs.adopt(number, like)
            yield
            for measurement in device.warm_up(sizes):
                self._learn(measurement, number)
                yield
        except Exception as error:
            self._costs.forget(number)
            fault = classify(error)
            if fault is Fault.DEVICE:
                raise DeviceLost(str(error)) from error
            if fault is Fault.MEMORY:
                (device or self.first).free()
            log.warning("a version of the weights could not be loaded: %s", error)
            report(error)
            return
        self._devices[number] = device
        report(device.info)

    def remove(self, number: int, report: Callable[[], None]) -> Iterator[None]:
        """Free a device that nothing is left to do for, and tell `report`."""
        device = self._devices.pop(number)
        if device is self.first:
            self.first = next(iter(self._devices.values()))
        self._costs.forget(number)
        device.free()
        del device
        _trim_heap()
        report()
        yield

    def _learn(self, measurement: MeasuredRun, number: int) -> None:
        measurement = dataclasses.replace(measurement, bucket=measurement.bucket._replace(weights=number))
        self._cold.mark_warm([measurement])
        self._costs.fit_size(measurement)


def _trim_heap() -> None:
    """Give the system back what was freed, where the C library can (glibc), which keeps it for later by itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
