"""How large an answer may become."""

from __future__ import annotations

import numpy as np
import pytest

from service.core.types import Frame, Options, PredictRequest
from service.serving.answer_size import answer_reserve


@pytest.mark.parametrize(
    ("options", "beyond_the_frames"),
    [(Options(), 0), (Options(steps=4), 6 * 300), (Options(maps=True), 40 * 100)],
)
def test_an_answer_takes_the_place_of_its_frames(options: Options, beyond_the_frames: int) -> None:
    frame = Frame(np.zeros((10, 10, 3), np.uint8))
    assert answer_reserve(PredictRequest("id", frame, frame, options, 0.0)) == beyond_the_frames
