"""Learns how far a stream's predictions are to be trusted, by how many ticks they look ahead.

What is not trusted stands still: of all mixtures of a prediction and the picture that it was made from, the one nearest
to the frames that came. Small motion and noise count little, so that a still picture teaches nothing. Knows no time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.core.types import Frame
from service.serving.streaming.online_score import Samples, samples

#: Trust by distance before anything is learnt; the last one holds beyond.
FIRST = (1.0, 0.9, 0.8, 0.7, 0.6)
#: How much that counts, in squared grey levels between the prediction and the picture that stands still.
FIRST_WEIGHT = 100.0
#: Part of what was learnt that is kept with each frame.
KEPT = 0.95
#: Distances that are learnt; what is farther ahead is judged by the last.
LEARNT = 4


def few_samples(frame: Frame) -> Samples:
    """Return a quarter of a frame's `samples`: enough for a trust, and quick for any size."""
    return samples(frame)[::2, ::2]


class MotionTrust:
    """Tell it of predictions and what came; ask it for the weight of the next ones."""

    def __init__(self) -> None:
        self._agreed = [0.0] * LEARNT  #: products of what was predicted and what came, both from the still picture on
        self._moved = [0.0] * LEARNT  #: squares of what was predicted

    def learn(self, distance: int, predicted: NDArray[np.float32], still: Samples, truth: Samples) -> None:
        """Take what was predicted `distance` ticks ahead, from the picture `still`; any distance beyond is left out."""
        if not 1 <= distance <= LEARNT:
            return
        place, start = distance - 1, still.astype(np.float32)
        way = predicted - start
        agreed, moved = float(np.mean(way * (truth - start))), float(np.mean(np.square(way)))
        self._agreed[place] = KEPT * self._agreed[place] + agreed
        self._moved[place] = KEPT * self._moved[place] + moved

    def at(self, distance: int) -> float:
        """Return the weight, 0 to 1, of a prediction `distance` ticks ahead."""
        place, first = min(distance, LEARNT) - 1, FIRST[min(distance, len(FIRST)) - 1]
        trust = (self._agreed[place] + FIRST_WEIGHT * first) / (self._moved[place] + FIRST_WEIGHT)
        return max(0.0, min(1.0, trust))
