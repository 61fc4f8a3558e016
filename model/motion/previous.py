"""The motion of the pair before, moved along itself: what a stream knows before it has looked at its new frame."""

from __future__ import annotations

from dataclasses import dataclass

from model.motion.field import MotionField, Pixels, check, sample, steady


@dataclass(frozen=True, slots=True, eq=False)
class PreviousMotion:
    """Costs next to nothing, and drifts: refresh it by another estimator every few frames."""

    before: MotionField

    @property
    def name(self) -> str:
        """Return "the motion before"."""
        return "the motion before"

    def __call__(self, older: Pixels, newer: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says; ValueError where the motion before is that of frames of another size."""
        check(older, newer)
        if self.before.newer.shape[:2] != newer.shape[:2]:
            raise ValueError(f"frames of {self.before.newer.shape[:2]} expected, not {newer.shape[:2]}")
        return steady(older, newer, sample(self.before.newer, self.before.newer))
