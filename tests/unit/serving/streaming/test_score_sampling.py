"""Which frames stand for a stream whose score nobody is told."""

from __future__ import annotations

from service.serving.streaming import score_sampling
from service.serving.streaming.score_sampling import EVERY, RUN


def test_what_is_predicted_from_a_frame_that_counts_has_its_truth_in_the_same_run() -> None:
    frames = range(10 * EVERY)
    counted = [number for number in frames if score_sampling.has_truth(number)]
    assert len(counted) == 10 * (RUN - 1)
    for number in counted:
        assert score_sampling.is_truth(number)
        assert score_sampling.is_truth(number + 1)
        assert not score_sampling.begins_run(number + 1)


def test_runs_are_evenly_apart_and_begin_with_a_stream() -> None:
    frames = range(10 * EVERY)
    starts = [number for number in frames if score_sampling.begins_run(number)]
    assert starts == [EVERY * k for k in range(10)]
    assert [number for number in frames if score_sampling.is_truth(number)] == [
        start + step for start in starts for step in range(RUN)
    ]


def test_runs_meet_every_place_in_a_camera_s_groups_of_pictures() -> None:
    for group in (8, 12, 15, 25, 30, 32, 50, 60, 250):
        met = {EVERY * k % group for k in range(group)}
        assert met == set(range(group))
