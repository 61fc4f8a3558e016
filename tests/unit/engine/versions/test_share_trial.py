"""A share is spread evenly, and taken back from a version that fails more often or takes longer."""

from __future__ import annotations

import random

from service.engine.versions.share_trial import ShareTrial
from service.engine.versions.version_record import FEWEST, FEWEST_SCORES


def test_five_percent_is_every_twentieth_request() -> None:
    trial = ShareTrial("new", 0.05)
    turns = [number for number in range(1, 101) if trial.takes_next()]
    assert turns == [20, 40, 60, 80, 100]


def test_a_version_as_good_as_the_default_keeps_its_share() -> None:
    trial, rng = ShareTrial("new", 0.5), random.Random(0)
    for number in range(2000):
        name = "new" if number % 2 else "old"
        assert not trial.record(name, None if rng.random() < 0.01 else rng.uniform(0.8, 1.25))
    assert (trial.share, trial.reason) == (0.5, "")


def test_failures_end_it_once_there_are_enough_answers_to_tell() -> None:
    trial = ShareTrial("new", 0.1)
    for _ in range(100):
        trial.record("old", 1.0)
    ends = [trial.record("new", 1.0 if number % 4 else None) for number in range(FEWEST)]
    assert ends == [False] * (FEWEST - 1) + [True]
    assert (trial.share, trial.takes_next()) == (0.0, False)
    assert trial.reason == "25% of its requests failed, 0% of the default's"


def test_failures_that_the_default_has_too_do_not_end_it() -> None:
    trial = ShareTrial("new", 0.1)
    for number in range(200):
        assert not trial.record("old", 1.0 if number % 3 else None)
        assert not trial.record("new", 1.0 if number % 3 else None)


def test_slow_answers_end_it() -> None:
    trial = ShareTrial("new", 0.1)
    for _ in range(FEWEST):
        trial.record("old", 1.0)
    assert [trial.record("new", 1.6) for _ in range(FEWEST)][-1]
    assert trial.reason == "its answers take 1.6 times as long as the default's"


def _scores(trial: ShareTrial, less_db: float, count: int) -> list[bool]:
    """Scores of both in turn, as scattered as those of real streams are (3 dB), the new one's lower by `less_db`."""
    rng = random.Random(1)
    ends = []
    for _ in range(count):
        trial.record_score("old", rng.gauss(4.0, 3.0))
        ends.append(trial.record_score("new", rng.gauss(4.0 - less_db, 3.0)))
    return ends


def test_a_lower_score_in_streams_ends_it_once_that_is_no_chance() -> None:
    trial = ShareTrial("new", 0.1)
    ends = _scores(trial, 3.0, 200)
    assert ends.count(True) == 1
    assert ends.index(True) >= FEWEST_SCORES - 1
    assert trial.share == 0.0
    assert trial.reason.startswith("in streams it gains ")


def test_scores_that_differ_by_chance_do_not_end_it() -> None:
    trial = ShareTrial("new", 0.1)
    assert not any(_scores(trial, 0.0, 3000))
    assert trial.share == 0.1
