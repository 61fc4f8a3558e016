"""What the warm-up tells the cost models, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.engine import warm_up
from service.engine.device import DeviceWork
from tests.unit.engine.tiny import Rigged

QUICK_S, HELD_UP_S = 0.003, 1.0


class Timed:
    """A device whose runs last as long as `seconds` says, in turn, by the clock `now`."""

    def __init__(self, *seconds: float) -> None:
        self.rigged = Rigged()
        self.rigged.before_run = self._run
        self.now = 0.0
        self._seconds = seconds

    def _run(self, works: Sequence[DeviceWork]) -> None:
        self.now += self._seconds[(len(self.rigged.batches) - 1) % len(self._seconds)]

    def measure(self, runs_before: int) -> list[float]:
        """The seconds of each row of the table."""
        table = list(warm_up.measure(self.rigged, [(32, 48)], 4, runs_before, lambda: self.now))
        return [row.seconds for row in table]


def test_a_run_that_a_busy_machine_held_up_is_not_what_is_expected() -> None:
    """One of 3 ms that took a second would stand for two minutes at 256x448, and the first request be refused."""
    assert Timed(QUICK_S, HELD_UP_S).measure(1) == pytest.approx([QUICK_S] * 4)


def test_quick_work_is_run_four_times_and_slow_work_no_more_than_needed() -> None:
    quick, slow = Timed(QUICK_S), Timed(HELD_UP_S)
    quick.measure(1)
    slow.measure(1)
    assert (len(quick.rigged.batches), len(slow.rigged.batches)) == (4 * 4, 4 * 2)


def test_what_a_gpu_does_once_is_left_out() -> None:
    compiling, recording, replaying = 5.0, 2.0, QUICK_S
    assert Timed(compiling, recording, replaying).measure(2) == pytest.approx([QUICK_S] * 4)
