"""Which frames of a clip can be trained on: finds scene cuts, duplicates and still clips.

Pure: frames in, verdict out. A data set's own list of bad frames can be joined to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A frame that differs from the one before by less than this (grey levels, mean) repeats it.
DUPLICATE_LEVELS = 0.05
#: A cut differs by more than this, and by more than CUT_RATIO times the clip's typical step.
CUT_LEVELS = 18.0
CUT_RATIO = 4.0
#: A clip whose typical step is below this shows nothing moving.
STILL_LEVELS = 0.12


@dataclass(frozen=True, slots=True)
class ClipVerdict:
    """What is wrong with a clip; indices name the later frame of the step."""

    cuts: frozenset[int] = frozenset()
    duplicates: frozenset[int] = frozenset()
    #: Steps longer or shorter than the others (judder); only a manifest knows them.
    irregular: frozenset[int] = frozenset()
    still: bool = False
    #: Median change from frame to frame in grey levels: how lively the clip is. 0 where nobody measured it.
    typical: float = 0.0

    def joined(self, other: ClipVerdict) -> ClipVerdict:
        """Join two verdicts: whatever either of them finds wrong."""
        return ClipVerdict(
            self.cuts | other.cuts,
            self.duplicates | other.duplicates,
            self.irregular | other.irregular,
            self.still or other.still,
            max(self.typical, other.typical),
        )

    def starts(self, frames: int, stride: int) -> tuple[int, ...]:
        """List the first frames of the triples (i, i + stride, i + 2 stride) that show steady motion."""
        if self.still:
            return ()
        breaks = self.cuts | self.irregular
        return tuple(
            i
            for i in range(frames - 2 * stride)
            if breaks.isdisjoint(range(i + 1, i + 2 * stride + 1)) and self._moves(i, stride)
        )

    def _moves(self, start: int, stride: int) -> bool:
        # With a stride of 1 a duplicate is a step without motion; with more it shortens a step, which is as bad.
        return self.duplicates.isdisjoint(range(start + 1, start + 2 * stride + 1))


def judge(frames: NDArray[np.uint8]) -> ClipVerdict:
    """Judge a clip, frames NxHxWx3 in time order."""
    # Every fourth pixel, rows and columns: enough to see a cut, and sixteen times cheaper.
    small = frames[:, ::4, ::4, 1].astype(np.int16)
    steps = np.abs(np.diff(small, axis=0)).mean((1, 2)) if len(frames) > 1 else np.zeros(0)
    if not len(steps):
        return ClipVerdict(still=True)
    moving = steps[steps >= DUPLICATE_LEVELS]
    typical = float(np.median(moving)) if len(moving) else 0.0
    limit = max(CUT_LEVELS, CUT_RATIO * typical)
    return ClipVerdict(
        cuts=frozenset(int(i) + 1 for i in np.flatnonzero(steps > limit)),
        duplicates=frozenset(int(i) + 1 for i in np.flatnonzero(steps < DUPLICATE_LEVELS)),
        still=typical < STILL_LEVELS,
        typical=typical,
    )
