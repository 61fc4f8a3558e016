"""Baselines on a pattern whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation import baselines
from tests.unit.model.training import pictures


def _error(name: str, step: int) -> float:
    frames = pictures.sliding(5, height=96, width=128)
    predicted = baselines.BASELINES[name](frames[0], frames[1], 3)[step - 1]
    # The border comes from outside the frame: nobody can know it.
    return float(np.abs(predicted - frames[1 + step] / 255.0)[16:-16, 16:-16].mean())


@pytest.mark.parametrize("name", [name for name in baselines.BASELINES if name != "repeat"])
@pytest.mark.parametrize("step", [1, 3])
def test_flow_carries_a_steady_motion_on(name: str, step: int) -> None:
    assert _error(name, step) < 0.25 * _error("repeat", step)


def test_repeating_gives_the_current_frame() -> None:
    frames = pictures.sliding(2)
    for predicted in baselines.repeat(frames[0], frames[1], 2):
        np.testing.assert_allclose(predicted, frames[1] / 255.0, atol=1e-6)


def test_a_constant_field_shifts_once_per_step() -> None:
    frame = pictures.sliding(1)[0]
    flow = np.zeros((*frame.shape[:2], 2), np.float32)
    flow[..., 0] = 3.0
    for step, predicted in enumerate(baselines.extrapolate(frame, flow, 2), 1):
        np.testing.assert_allclose(predicted[:, :40], frame[:, 3 * step : 40 + 3 * step] / 255.0, atol=1e-5)
