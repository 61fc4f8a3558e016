"""What requests in flight hold together."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.core.errors import QueueFull
from service.serving.byte_budget import ByteBudget


def test_what_does_not_fit_is_refused_with_a_time_and_changes_nothing() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    first.grow(60)
    second.grow(40)
    with pytest.raises(QueueFull) as refused:
        second.grow(1)
    assert refused.value.retry_after
    assert (budget.held, second.nbytes) == (100, 40)
    first.shrink(1)
    second.grow(1)
    assert budget.held == 100


def test_a_request_that_is_alone_is_admitted_however_much_it_needs() -> None:
    budget = ByteBudget(100)
    with budget.open() as alone:
        alone.grow(90)
        alone.grow(500)
        with pytest.raises(QueueFull):
            budget.open().grow(1)
    assert budget.held == 0
    budget.open().grow(1)


def test_what_turned_out_is_never_refused_and_release_counts_once() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    first.grow(10)
    second.settle(500)
    assert budget.held == 510
    second.release()
    second.release()
    second.shrink(5)
    assert budget.held == 10


def test_threads_lose_no_count() -> None:
    budget = ByteBudget(10**9)

    def work(_: int) -> None:
        holding = budget.open()
        for _ in range(300):
            holding.grow(3)
            holding.shrink(2)
        holding.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert budget.held == 0


def test_threads_of_one_request_lose_no_count() -> None:
    """Both frames of a pair are decoded at once, each in a thread that reserves its pixels."""
    holding = ByteBudget(10**9).open()

    def work(_: int) -> None:
        for _ in range(3000):
            holding.grow(3)
            holding.shrink(2)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert holding.nbytes == 4 * 3000
