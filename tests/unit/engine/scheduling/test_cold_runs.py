"""First runs of a size are told from later ones."""

from __future__ import annotations

import pytest

from service.core.bucket import Bucket
from service.engine.scheduling.cold_runs import REMEMBERED, ColdRuns
from service.engine.scheduling.cost_model import Load, MeasuredRun

SMALL, LARGE = Bucket(64, 64, 1.0), Bucket(512, 512, 1.0)


@pytest.mark.parametrize("needed", [1, 2])
def test_the_first_runs_of_a_size_and_a_number_of_rows_are_cold(needed: int) -> None:
    cold = ColdRuns(needed)
    for bucket, rows in ((SMALL, 1), (SMALL, 2), (LARGE, 1)):
        assert [cold.is_cold(bucket, rows) for _ in range(4)] == [True] * needed + [False] * (4 - needed)


def test_what_was_warmed_up_is_warm() -> None:
    cold = ColdRuns(2)
    cold.mark_warm([MeasuredRun(SMALL, Load.of(SMALL, [(True,) * 9] * rows, 1, 0), 0.1) for rows in (1, 4)])
    assert [cold.is_cold(SMALL, rows) for rows in (1, 2, 4)] == [False, True, False]


def test_sizes_that_callers_invent_do_not_grow_it_without_end() -> None:
    cold = ColdRuns()
    for height in range(16, 16 * (REMEMBERED + 50), 16):
        cold.is_cold(Bucket(height, 16, 1.0), 1)
    assert len(cold._counts) == REMEMBERED
