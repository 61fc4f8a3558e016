"""Keeps one item's failure from its neighbours, and tells a bad item from a full or a broken device."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from service.core.errors import Internal, ServiceError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

#: Words of errors after which a CUDA context answers nothing but errors: only a new process helps.
STICKY = (
    "illegal memory access",
    "device-side assert",
    "misaligned address",
    "unspecified launch failure",
    "device kernel image is invalid",
    "uncorrectable ecc",
    "cuda error: unknown error",
    "gpu has fallen off the bus",
)
#: Words of the errors by which a CPU allocation fails; torch has no type for it.
CPU_MEMORY = ("can't allocate memory", "not enough memory")
#: Seconds a caller should wait when even its own request alone did not fit the device's memory.
MEMORY_RETRY = 1.0


class Fault(enum.Enum):
    """What an exception of the device says."""

    ITEM = "item"  #: something in this batch
    MEMORY = "memory"  #: too much at once
    DEVICE = "device"  #: nothing will work any more


class DeviceLost(Exception):
    """The device or its context is broken; every further call would fail."""


def classify(error: BaseException) -> Fault:
    """What to do about it. Unknown errors are taken for an item's: bisecting finds out at little cost."""
    text = str(error).lower()
    if isinstance(error, DeviceLost) or any(words in text for words in STICKY):
        return Fault.DEVICE
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in text for words in CPU_MEMORY):
        return Fault.MEMORY
    return Fault.ITEM


def isolate(
    run: Callable[[Sequence[T]], Sequence[R | ServiceError]], items: Sequence[T], ran_out: Callable[[int], None]
) -> list[R | ServiceError]:
    """Run all items together; where that fails, halves, down to the items at fault, which get errors.

    `ran_out(n)` is told that n items did not fit the memory, before a smaller try (a single item gets one more).
    DeviceLost is raised where the device is broken.
    """
    if not items:  # every caller has left meanwhile: halving nothing would never end
        return []
    retried = False
    while True:
        try:
            return list(run(items))
        except Exception as error:
            fault, answer = classify(error), error if isinstance(error, ServiceError) else None
            if fault is Fault.DEVICE:
                raise DeviceLost(str(error)) from error
            if fault is Fault.ITEM and len(items) == 1:
                if answer is not None:
                    return [answer]
                log.exception("a request failed on the device")
                return [Internal("the prediction failed")]
            log.warning("a batch of %d failed (%s), trying less: %s", len(items), fault.value, error)
        # Outside the handler, so that the traceback no longer holds the failed batch's tensors.
        if fault is Fault.MEMORY:
            ran_out(len(items))
            if len(items) == 1:
                if retried:
                    return [
                        Unavailable(
                            "the device has not enough memory for this request",
                            reason="out_of_memory",
                            retry_after=MEMORY_RETRY,
                        )
                    ]
                retried = True
                continue
        half = len(items) // 2
        return isolate(run, items[:half], ran_out) + isolate(run, items[half:], ran_out)
