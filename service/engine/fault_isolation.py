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

#: Words with which a GPU's runtime begins its errors; torch.AcceleratorError is its type, where torch has it. What
#: Triton's launches and torch's own calls of the driver raise are plain RuntimeErrors.
RUNTIME = ("cuda error:", "hip error:", "xpu error:", "cuda driver error:", "triton error [")
#: What such an error says when the call was wrong and the device is not: later calls work.
HARMLESS = (
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "invalid resource handle",
    "no kernel image is available",
    "not supported",
    "not permitted when stream is capturing",
    "operation would make the legacy stream depend on",
    "operation failed due to a previous error during capture",
    "too many resources requested for launch",
    "cublas_status_invalid_value",
    "cublas_status_not_initialized",
)
#: Words of errors after which a context answers nothing but errors, whatever their type: only a new process helps.
STICKY = (
    "illegal memory access",
    "device-side assert",
    "misaligned address",
    "global/shared address space",
    "unspecified launch failure",
    "device kernel image is invalid",
    "uncorrectable ecc",
    "gpu has fallen off the bus",
    "status_execution_failed",  # of CUBLAS, CUDNN, CUSOLVER and the others
    "status_internal_error",
    "status_mapping_error",
)
#: Words of the errors by which a device's allocation fails outside torch's own allocator.
DEVICE_MEMORY = ("out of memory", "status_alloc_failed", "memory allocation failure")
#: Words of the errors by which a CPU allocation fails; torch has no type for it, nor has OpenCV.
CPU_MEMORY = ("can't allocate memory", "not enough memory", "(-4:insufficient memory)")
#: The types of a GPU runtime's errors; older torch raises plain RuntimeErrors, told by their words.
ACCELERATOR_ERRORS: tuple[type[BaseException], ...] = tuple(
    kind for kind in (getattr(torch, "AcceleratorError", None),) if kind is not None
)
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
    """Tell what is wrong by the error's type and words.

    Errors of a GPU's runtime are the device's unless they are known to be harmless. Those that nothing is known of are
    taken for an item's: bisecting finds out at little cost, and `engine.self_test` tests a device that goes on failing.
    """
    text = str(error).lower()
    # "out of memory" is an item's own word, too: only of a runtime's error does it tell of memory.
    is_runtime = isinstance(error, ACCELERATOR_ERRORS) or any(words in text for words in RUNTIME)
    if isinstance(error, DeviceLost):
        return Fault.DEVICE
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in text for words in CPU_MEMORY):
        return Fault.MEMORY
    if (is_runtime or "_status_" in text) and any(words in text for words in DEVICE_MEMORY):
        return Fault.MEMORY
    if any(words in text for words in STICKY):
        return Fault.DEVICE
    if is_runtime and not any(words in text for words in HARMLESS):
        return Fault.DEVICE
    return Fault.ITEM


def run_isolated(
    run: Callable[[Sequence[T]], Sequence[R | ServiceError]], items: Sequence[T], ran_out: Callable[[int], None]
) -> list[R | ServiceError]:
    """Run all items together; where that fails, run halves, down to the items at fault, which get errors.

    `ran_out(n)` is told that n items did not fit the memory, before a smaller try (a single item gets one more).
    DeviceLost is raised where the device is broken.
    """
    if not items:  # every caller has left meanwhile: halving nothing would never end
        return []
    is_retry = False
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
                if is_retry:
                    return [
                        Unavailable(
                            "the device has not enough memory for this request",
                            reason="out_of_memory",
                            retry_after=MEMORY_RETRY,
                        )
                    ]
                is_retry = True
                continue
        half = len(items) // 2
        return run_isolated(run, items[:half], ran_out) + run_isolated(run, items[half:], ran_out)
