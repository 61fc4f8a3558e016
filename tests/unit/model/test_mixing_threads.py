"""Small frames are mixed by as many threads as was measured to be best, and larger ones by all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from model.mixing.threads import SMALL, MixingThreads

PIXELS = SMALL[0] * SMALL[1]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def chosen(seconds_by_threads: dict[int, float]) -> MixingThreads:
    """The choice where mixing a small frame takes so long by so many threads, on a clock of its own."""
    now, threads = 0.0, MixingThreads()

    def mix_small() -> None:
        nonlocal now
        now += seconds_by_threads[torch.get_num_threads()]

    threads.choose(mix_small, lambda: now)
    return threads


def used(threads: MixingThreads, pixels: float) -> int:
    with threads.of(pixels):
        return torch.get_num_threads()


@pytest.mark.parametrize(("one", "both", "expected"), [(0.010, 0.007, 2), (0.010, 0.009, 1), (0.010, 0.014, 1)])
def test_both_threads_mix_small_frames_only_where_that_is_clearly_quicker(
    one: float, both: float, expected: int
) -> None:
    threads = chosen({1: one, 2: both})
    assert (used(threads, PIXELS), used(threads, PIXELS + 1)) == (expected, 2)
    assert torch.get_num_threads() == 2


def test_all_threads_mix_until_it_is_measured() -> None:
    assert used(MixingThreads(), PIXELS) == 2


def test_the_number_of_threads_is_as_before_where_mixing_fails() -> None:
    threads = chosen({1: 0.010, 2: 0.010})
    with pytest.raises(FloatingPointError), threads.of(PIXELS):
        raise FloatingPointError
    assert torch.get_num_threads() == 2
