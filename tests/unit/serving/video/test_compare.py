from __future__ import annotations

import math

import numpy as np
import pytest

from service.core.types import Frame
from service.serving.video.compare import GAP, FrameScore, psnr, side_by_side, size
from tests.unit.serving.video.clips import moving


def test_equal_frames_are_infinitely_close_and_opposite_ones_not_at_all() -> None:
    black, white = (Frame(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255))
    assert psnr(black, black) == math.inf
    assert psnr(black, white) == 0


def test_a_comparison_shows_the_truth_the_prediction_and_where_they_differ() -> None:
    truth, shown = moving(2)
    picture = side_by_side(truth, shown, (True,) * 9, (20.0, 18.0))
    assert (picture.width, picture.height) == size(truth.width, truth.height)
    assert np.array_equal(picture.pixels[:32, :48], truth.pixels)
    assert np.array_equal(picture.pixels[:32, 48 + GAP : 96 + GAP], shown.pixels)
    error = picture.pixels[:32, 96 + 2 * GAP : 144 + 2 * GAP]
    same = (truth.pixels == shown.pixels).all(axis=2)
    assert (error[same] == 0).all()
    assert (error[~same].max(axis=1) > 0).all()


def test_the_score_is_the_mean_and_counts_wins() -> None:
    score = FrameScore()
    score.add(30.0, 20.0)
    score.add(math.inf, 40.0)
    score.add(10.0, 30.0)
    assert score.text() == (
        "PSNR over 3 predicted frames: 46.67 dB; repeating the last frame: 30.00 dB; better than repeating on 2 of 3"
    )
    assert "nothing" in FrameScore().text()


@pytest.mark.parametrize(("width", "height"), [(48, 32), (47, 31)])
def test_comparisons_have_even_sides(width: int, height: int) -> None:
    assert [side % 2 for side in size(width, height)] == [0, 0]
