"""A bad item, too little memory and a broken device are told apart, and cost no more than they must."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import Internal, InvalidRequest, ServiceError, Unavailable
from service.engine.fault_isolation import DeviceLost, Fault, classify, run_isolated

#: What NVIDIA says of errors after which "any further CUDA work will return the same error".
STICKY_WORDS = (
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "context is destroyed",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "unknown error",
    "a name that no release of CUDA has yet",
)


def never(items: int) -> None:
    raise AssertionError("no memory was short")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("a shape"), Fault.ITEM),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Fault.DEVICE),
        (RuntimeError("CUDA error: device-side assert triggered"), Fault.DEVICE),
        (DeviceLost("gone"), Fault.DEVICE),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Fault.MEMORY),
        (MemoryError(), Fault.MEMORY),
        *((RuntimeError(f"CUDA error: {words}"), Fault.DEVICE) for words in STICKY_WORDS),
        *((RuntimeError(f"Triton Error [CUDA]: {words}"), Fault.DEVICE) for words in STICKY_WORDS),
        (RuntimeError("Triton Error [HIP]: Code: 719, Message: unspecified launch failure"), Fault.DEVICE),
        (RuntimeError("CUDA driver error: unknown error"), Fault.DEVICE),
        (RuntimeError("Triton Error [CUDA]: out of memory"), Fault.MEMORY),
        (RuntimeError("CUDA driver error: out of memory"), Fault.MEMORY),
        (RuntimeError("Triton Error [CUDA]: invalid argument"), Fault.ITEM),
        (RuntimeError("out of resource: shared memory, Required: 262144, Hardware limit: 232448"), Fault.ITEM),
        (RuntimeError("HIP error: an illegal state was encountered"), Fault.DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Fault.DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), Fault.DEVICE),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), Fault.DEVICE),
        (RuntimeError("CUDA error: out of memory"), Fault.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Fault.MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Fault.MEMORY),
        (RuntimeError("CUDA error: invalid configuration argument"), Fault.ITEM),
        (RuntimeError("CUDA error: operation not permitted when stream is capturing"), Fault.ITEM),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), Fault.ITEM),
        (RuntimeError("the caller's list is out of memory cells"), Fault.ITEM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."), Fault.MEMORY),
    ],
)
def test_an_error_says_what_is_wrong(error: Exception, fault: Fault) -> None:
    assert classify(error) is fault


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch has no type for a device's errors")
@pytest.mark.parametrize(
    ("words", "fault"),
    [("whatever it is", Fault.DEVICE), ("out of memory", Fault.MEMORY), ("invalid argument", Fault.ITEM)],
)
def test_a_devices_error_is_known_by_its_type(words: str, fault: Fault) -> None:
    assert classify(torch.AcceleratorError(words)) is fault


@given(st.sets(st.integers(0, 15)), st.integers(1, 16))
def test_exactly_the_bad_items_fail_wherever_they_are(bad: set[int], size: int) -> None:
    def run(items: Sequence[int]) -> list[int | ServiceError]:
        if bad & set(items):
            raise ValueError("somebody here is bad")
        return [item * 10 for item in items]

    answers = run_isolated(run, range(size), never)
    assert [isinstance(answer, Internal) for answer in answers] == [i in bad for i in range(size)]
    assert [answer for answer in answers if not isinstance(answer, ServiceError)] == [
        i * 10 for i in range(size) if i not in bad
    ]


def test_one_bad_item_of_eight_costs_at_most_three_splits() -> None:
    calls = []

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        calls.append(len(items))
        if 5 in items:
            raise ValueError("five")
        return list(items)

    run_isolated(run, range(8), never)
    assert sorted(calls, reverse=True) == [8, 4, 4, 2, 2, 1, 1]


def test_an_items_own_service_error_is_its_answer() -> None:
    def run(items: Sequence[int]) -> list[int | ServiceError]:
        raise InvalidRequest("no", field="steps")

    (answer,) = run_isolated(run, [1], never)
    assert isinstance(answer, InvalidRequest)


def test_an_internal_error_tells_the_caller_nothing_of_the_cause() -> None:
    def run(items: Sequence[int]) -> list[int | ServiceError]:
        raise ValueError("/secret/path")

    (answer,) = run_isolated(run, [1], never)
    assert isinstance(answer, Internal)
    assert "secret" not in answer.message


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits() -> None:
    short: list[int] = []

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    assert run_isolated(run, range(8), short.append) == list(range(8))
    assert short == [8, 4, 4]


def test_a_single_item_gets_a_second_try_in_freed_memory() -> None:
    free: list[int] = []

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        if not free:
            raise MemoryError
        return list(items)

    assert run_isolated(run, [7], free.append) == [7]


def test_an_item_that_never_fits_is_told_so_and_its_neighbours_are_answered() -> None:
    short: list[int] = []

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        if 0 in items:
            raise MemoryError
        return list(items)

    first, second = run_isolated(run, [0, 1], short.append)
    assert isinstance(first, Unavailable)
    assert first.reason == "out_of_memory"
    assert second == 1
    assert short == [2, 1, 1]


def test_a_broken_device_is_not_tried_again() -> None:
    calls = []

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        calls.append(len(items))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLost):
        run_isolated(run, range(8), never)
    assert calls == [8]


def test_nothing_to_run_is_never_run() -> None:
    """All callers may have left before their batch ran, and half of nothing is nothing."""

    def run(items: Sequence[int]) -> list[int | ServiceError]:
        raise IndexError(f"a batch of {len(items)}")

    assert run_isolated(run, [], lambda n: None) == []
