"""A stream's predictions, scored by the frames that come: exact values on pictures of known error."""

from __future__ import annotations

import numpy as np
import pytest

from service.core.timings import Timings
from service.core.types import Frame, Method, PredictResult, Step
from service.serving.streaming.online_score import COLUMNS, MOST_DB, ROWS, OnlineScore, ScoreReport, samples

#: Of a picture that is out by 4 and by 8 everywhere: 20 log10(255/4), 20 log10(255/8).
OUT_BY_4, OUT_BY_8 = 36.0896, 30.0690


def flat(value: int) -> Frame:
    return Frame(np.full((32, 48, 3), value, np.uint8))


def predicted(*values: int, times: tuple[float, ...] = ()) -> PredictResult:
    moments = times or (None,) * len(values)
    steps = tuple(
        Step(flat(value), (False,) * 9, 0, method=Method.FLOW, t=t) for value, t in zip(values, moments, strict=True)
    )
    return PredictResult("r", steps, "v7", Timings(0, 0, 0))


def test_a_frame_is_the_truth_of_what_was_predicted_for_it() -> None:
    score = OnlineScore()
    score.arrived(0, None, flat(100), begins_pair=True)
    assert score.arrived(1, None, flat(108), begins_pair=False) is None
    assert score.predicted(1, None, None, flat(108), predicted(112)) == []
    result = score.arrived(2, None, flat(116), begins_pair=False)
    assert result is not None
    assert (result.method, result.version, result.intervals, result.is_next) == (Method.FLOW, "v7", 1, True)
    assert result.psnr_db == pytest.approx(OUT_BY_4, abs=1e-3)
    assert result.gain_db == pytest.approx(OUT_BY_4 - OUT_BY_8, abs=1e-3)


def test_a_prediction_that_is_later_than_its_truth_is_compared_when_it_comes() -> None:
    score = OnlineScore()
    score.arrived(0, None, flat(100), begins_pair=True)
    score.arrived(1, None, flat(108), begins_pair=False)
    score.arrived(2, None, flat(116), begins_pair=False)
    (result,) = score.predicted(1, None, None, flat(108), predicted(116))
    assert result.psnr_db == MOST_DB
    assert score.predicted(1, None, None, flat(108), predicted(116)) == []  # a frame counts once


def test_of_several_predictions_for_one_time_the_last_counts() -> None:
    score = OnlineScore()
    score.arrived(0, None, flat(0), begins_pair=True)
    score.arrived(1, None, flat(10), begins_pair=False)
    score.predicted(1, None, None, flat(10), predicted(20, 90))
    first = score.arrived(2, None, flat(20), begins_pair=False)
    score.predicted(2, None, None, flat(20), predicted(34, 50))
    second = score.arrived(3, None, flat(30), begins_pair=False)
    assert first is not None
    assert first.psnr_db == MOST_DB
    assert second is not None
    assert second.psnr_db == pytest.approx(OUT_BY_4, abs=1e-3)
    assert second.intervals == 1


def test_times_match_by_the_clients_clock_within_a_tenth_of_an_interval() -> None:
    """Frame 2 never came: frame 3 is the truth of t = 2, not of t = 1."""
    score = OnlineScore()
    score.arrived(0, 0, flat(0), begins_pair=True)
    score.arrived(1, 40_000, flat(10), begins_pair=False)
    score.predicted(1, 40_000, 40_000, flat(10), predicted(20, 26, times=(1, 2)))
    result = score.arrived(2, 122_000, flat(30), begins_pair=False)
    assert result is not None
    assert (result.intervals, result.is_next) == (2, False)
    assert result.psnr_db == pytest.approx(OUT_BY_4, abs=1e-3)
    score.predicted(2, 122_000, 82_000, flat(30), predicted(50))
    assert score.arrived(3, 218_000, flat(50), begins_pair=False) is None


def test_nothing_is_compared_across_a_cut() -> None:
    score = OnlineScore()
    score.arrived(0, None, flat(0), begins_pair=True)
    score.arrived(1, None, flat(10), begins_pair=False)
    score.predicted(1, None, None, flat(10), predicted(20, 30))
    assert score.arrived(2, None, flat(200), begins_pair=True) is None
    assert score.predicted(1, None, None, flat(10), predicted(20, 30)) == []
    assert score.arrived(3, None, flat(30), begins_pair=False) is None
    assert score.report() is None


def test_the_report_has_the_last_and_the_means() -> None:
    score = OnlineScore()
    score.arrived(0, None, flat(100), begins_pair=True)
    score.arrived(1, None, flat(108), begins_pair=False)
    score.predicted(1, None, None, flat(108), predicted(112))
    score.arrived(2, None, flat(116), begins_pair=False)
    score.predicted(2, None, None, flat(116), predicted(124))
    score.arrived(3, None, flat(124), begins_pair=False)
    gains = OUT_BY_4 - OUT_BY_8, MOST_DB - OUT_BY_8
    expected = ScoreReport(2, MOST_DB, gains[1], (OUT_BY_4 + MOST_DB) / 2, sum(gains) / 2)
    report = score.report()
    assert report is not None
    assert report.frames == expected.frames
    for name in ("psnr_db", "gain_db", "mean_psnr_db", "mean_gain_db"):
        assert getattr(report, name) == pytest.approx(getattr(expected, name), abs=1e-3)


def test_a_large_picture_is_compared_on_samples_and_a_small_one_whole() -> None:
    large = samples(Frame(np.zeros((1080, 1920, 3), np.uint8)))
    assert large.shape[0] <= ROWS
    assert large.shape[1] <= COLUMNS
    assert samples(flat(3)).shape == (32, 48, 3)


def test_memory_is_bounded_whatever_never_comes() -> None:
    score = OnlineScore()
    score.arrived(0, 0, flat(0), begins_pair=True)
    for number in range(1, 60):
        score.arrived(number, 7 * number * number, flat(1), begins_pair=False)
        score.predicted(number, 7 * number * number, 1, flat(1), predicted(*[1] * 8))
    assert len(score._waiting) <= 16
    assert len(score._truths) <= 8
