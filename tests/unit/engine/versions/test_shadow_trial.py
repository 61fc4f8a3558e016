"""A version that answers again is ended where it fails, takes longer, or answers with other pictures."""

from __future__ import annotations

import pytest

from service.core.interfaces import ShadowReport
from service.engine.versions.shadow_trial import ShadowTrial
from service.engine.versions.version_record import FEWEST


def test_it_answers_the_part_that_it_was_given() -> None:
    trial = ShadowTrial("new", 0.25)
    assert [number for number in range(1, 13) if trial.takes_next()] == [4, 8, 12]


def test_one_that_answers_alike_in_the_same_time_goes_on_and_says_what_it_saw() -> None:
    trial = ShadowTrial("new", 1.0)
    assert not any(trial.record(34.0 + number % 3, (1.0, 1.2)) for number in range(100))
    assert trial.report() == ShadowReport(1.0, 100, 35.0, 1.2)
    assert trial.takes_next()


@pytest.mark.parametrize(
    ("seconds", "agreement_db", "reason"),
    [
        (None, None, "100% of its requests failed, 0% of the default's"),
        ((1.0, 2.0), 35.0, "its answers take 2.0 times as long as the default's"),
        (None, 12.5, "its answers are 12.5 dB from the default's, which is another picture"),
    ],
)
def test_one_that_is_worse_is_ended_once_there_are_enough_answers_to_tell(
    seconds: tuple[float, float] | None, agreement_db: float | None, reason: str
) -> None:
    trial = ShadowTrial("new", 0.5)
    ends = [trial.record(agreement_db, seconds) for _ in range(FEWEST)]
    assert ends == [False] * (FEWEST - 1) + [True]
    assert (trial.share, trial.reason, trial.takes_next()) == (0.0, reason, False)
    assert not trial.record(agreement_db, seconds)


def test_before_any_comparison_nothing_is_said_of_it() -> None:
    assert ShadowTrial("new", 0.1).report() == ShadowReport(0.1, 0, None, None)
