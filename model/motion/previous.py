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

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says; ValueError where the motion before is that of frames of another size."""
        check(previous, current)
        if self.before.current.shape[:2] != current.shape[:2]:
            raise ValueError(f"frames of {self.before.current.shape[:2]} expected, not {current.shape[:2]}")
        return steady(previous, current, sample(self.before.current, self.before.current))
