"""Methods against rivals, clip by clip."""

from __future__ import annotations

import math

import pytest

from model.evaluation import comparison
from model.evaluation.measure import WindowScore


def _score(method: str, clip: str, psnr: float) -> WindowScore:
    return WindowScore(method, clip, 0, 1, psnr, 0.9, math.nan, math.nan, 0.0, "")


SCORES = [
    *(_score("repeat", clip, psnr) for clip, psnr in (("x", 20.0), ("y", 31.0))),
    *(_score("dis", clip, 30.0) for clip in "xy"),
    *(_score("dis mean", clip, 30.5) for clip in "xy"),
    *(_score("ours", clip, psnr) for clip, psnr in (("x", 31.0), ("y", 30.8))),
    _score("budget 1", "x", 10.0),
    _score("once", "x", 10.0),
]


def test_gains_their_error_and_the_worst_clip() -> None:
    by = {line.method: line for line in comparison.compare(SCORES)}
    ours = by["ours"]
    assert ours.over_dis == pytest.approx(0.9)
    assert ours.error_over_dis == pytest.approx(0.1)
    assert (ours.ahead_of_dis, ours.clips) == (2, 2)
    assert ours.over_mean == pytest.approx(0.4)
    assert ours.worst == pytest.approx(-0.2)  # repeating is better than DIS on y


def test_what_was_not_measured_on_every_clip_is_left_out() -> None:
    assert [line.method for line in comparison.compare(SCORES)] == ["repeat", "dis", "dis mean", "ours"]


def test_without_rivals_there_are_no_figures() -> None:
    alone = comparison.compare([_score("ours", "x", 30.0)])
    assert math.isnan(alone[0].over_dis)
    assert math.isnan(alone[0].over_mean)
    assert alone[0].ahead_of_dis == 0
