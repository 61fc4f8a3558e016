from __future__ import annotations

import pytest

from service.serving.video.clip import VideoError
from service.serving.video.plan import (
    Ahead,
    Decision,
    Every,
    FillLost,
    FramePlan,
    FrameRanges,
    Keep,
    Predict,
    Repeat,
    lost_frames,
)


def _all(plan: FramePlan, cuts: frozenset[int], count: int) -> list[Decision]:
    start, found = 0, []
    for index in range(count):
        start = index if index in cuts else start
        found.append(plan.decide(index, index - start))
    return found


def test_ahead_predicts_once_its_scene_has_an_old_enough_pair() -> None:
    guess = Predict(back=2, steps=2)
    assert _all(Ahead(2), frozenset(), 5) == [Keep(), Keep(), Keep(), guess, guess]
    assert _all(Ahead(2), frozenset({4}), 9) == [*[Keep()] * 3, guess, *[Keep()] * 3, guess, guess]


def test_every_second_frame_is_predicted_from_the_two_before_it() -> None:
    guess = Predict(back=1, steps=1)
    assert _all(Every(2), frozenset(), 6) == [Keep(), Keep(), Keep(), guess, Keep(), guess]


def test_every_predicts_nothing_right_after_a_cut() -> None:
    assert _all(Every(1), frozenset({3}), 6) == [
        Keep(),
        Keep(),
        Predict(1, 1),
        Keep(),
        Keep(),
        Predict(1, 1),
    ]


def test_lost_frames_are_predicted_from_what_was_shown() -> None:
    guess = Predict(back=1, steps=1, repaired=True)
    assert _all(FillLost(frozenset({2, 3})), frozenset(), 5) == [Keep(), Keep(), guess, guess, Keep()]


def test_a_lost_frame_with_no_pair_before_it_repeats_and_a_first_one_stays() -> None:
    assert _all(FillLost(frozenset({0, 1})), frozenset(), 2) == [Keep(), Repeat()]


def test_lists_of_lost_frames_hold_numbers_ranges_and_comments() -> None:
    frames = lost_frames("20  # one\n3, 5-7\n# a burst\n7-8,6")
    assert [index for index in range(30) if index in frames] == [3, 5, 6, 7, 8, 20]
    assert frames == FrameRanges((3, 5, 20), (3, 8, 20))


def test_a_range_takes_no_more_memory_than_its_text() -> None:
    frames = lost_frames(",".join(f"{start}-{start + 10**6}" for start in range(0, 9 * 10**8, 10**6 + 2)))
    assert len(frames.firsts) == 900
    assert (0 in frames, 10**6 in frames, 10**6 + 1 in frames, 10**9 in frames) == (True, True, False, False)


def test_a_list_that_is_longer_than_it_may_be_is_refused_unread() -> None:
    with pytest.raises(VideoError, match="longer than 10 characters"):
        lost_frames("1,2,3,4,5,x", most=10)


@pytest.mark.parametrize("text", ["", "# none", "x", "7-3", "9" * 10, "9" * 10**5, "\u0663", "-4", "1.5"])
def test_lists_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(VideoError, match="lost frames"):
        lost_frames(text)


@pytest.mark.parametrize("make", [lambda: Ahead(0), lambda: Every(0), lambda: Every(10**100)])
def test_nothing_ahead_and_every_zeroth_are_refused(make: type) -> None:
    with pytest.raises(VideoError, match="at least 1"):
        make()
