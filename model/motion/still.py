"""No motion at all: repeats the current frame, for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.motion.field import MotionField, Pixels, agreement, check


@dataclass(frozen=True, slots=True)
class Still:
    """Estimates no motion: the prediction is the current frame again, the least that any estimator must beat."""

    @property
    def name(self) -> str:
        """Return "still"."""
        return "still"

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says."""
        check(previous, current)
        nothing = np.zeros((*current.shape[:2], 2), np.float32)
        return MotionField(nothing, nothing, agreement(previous, current))
