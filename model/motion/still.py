"""No motion at all: repeats the newer frame, for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.motion.field import MotionField, Pixels, agreement, check


@dataclass(frozen=True, slots=True)
class Still:
    """The answer to beat."""

    @property
    def name(self) -> str:
        """Return "still"."""
        return "still"

    def __call__(self, older: Pixels, newer: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says."""
        check(older, newer)
        nothing = np.zeros((*newer.shape[:2], 2), np.float32)
        return MotionField(nothing, nothing, agreement(older, newer))
