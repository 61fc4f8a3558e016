"""Means over steps, windows and clips."""

from __future__ import annotations

import math

import pytest

from model.evaluation import summary
from model.evaluation.measure import WindowScore


def _score(method: str, clip: str, window: int, step: int, psnr: float, route: str = "") -> WindowScore:
    return WindowScore(method, clip, window, step, psnr, 0.9, math.nan, math.nan, 1e9 * len(route), route)


SCORES = [
    _score("a", "x", 0, 1, 30.0, "110"),
    _score("a", "x", 0, 2, 20.0, "100"),
    _score("a", "x", 1, 1, 34.0, "110"),
    _score("a", "x", 1, 2, 24.0, "110"),
    _score("a", "y", 2, 1, 10.0, "111"),
    _score("a", "y", 2, 2, 6.0, "110"),
    _score("b", "x", 0, 1, 1.0),
]


def test_a_horizon_is_the_mean_over_its_steps_and_clips_weigh_alike() -> None:
    by = {(line.method, line.upto): line for line in summary.lines(SCORES, (1, 2), by_clip=True)}
    assert by[("a", 1)].values["psnr"] == pytest.approx((32 + 10) / 2)
    assert by[("a", 2)].values["psnr"] == pytest.approx((27 + 8) / 2)
    assert math.isnan(by[("a", 1)].values["ms_ssim"])
    assert ("b", 2) not in by


def test_benchmarks_take_means_over_windows() -> None:
    line = summary.lines(SCORES, (1,), by_clip=False)[0]
    assert line.values["psnr"] == pytest.approx((30 + 34 + 10) / 3)
    assert line.blocks == pytest.approx(7 / 3)


def test_per_clip_and_usage() -> None:
    assert summary.per_clip(SCORES) == {"x": {"a": 32.0, "b": 1.0}, "y": {"a": 10.0}}
    assert summary.usage(SCORES, "a") == pytest.approx([1, 5 / 6, 1 / 6])
    assert summary.usage(SCORES) == []
