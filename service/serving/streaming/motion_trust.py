"""Learns how far a stream's predictions are to be trusted, by how many ticks they look ahead, and where in the picture.

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
FIRST_WEIGHT = 200.0
#: Part of what was learnt that is kept with each frame.
KEPT = 0.95
#: Distances that are learnt; what is farther ahead is judged by the last.
LEARNT = 4
#: What came is taken to be at most so many times what was predicted: across a cut it would count as a thousand frames.
LEAST_AGREED, MOST_AGREED = -1.0, 2.0
#: Samples a side, around each, that are taken together: a seventh of a picture's height.
TOGETHER = 7

Floats = NDArray[np.float32]


def few_samples(frame: Frame) -> Samples:
    """Return a quarter of a frame's `samples`: enough for a trust, and quick for any size."""
    return samples(frame)[::2, ::2]


class MotionTrust:
    """Tell it of predictions and what came; ask it for the weights of the next ones."""

    def __init__(self) -> None:
        nothing = np.zeros((1, 1), np.float32)
        self._agreed = [
            nothing
        ] * LEARNT  #: products of what was predicted and what came, both from the still picture on
        self._moved = [nothing] * LEARNT  #: squares of what was predicted

    def learn(self, distance: int, prediction: Floats, still: Samples, truth: Samples) -> None:
        """Take the `prediction` made `distance` ticks ahead from the picture `still`; any distance beyond is left out.

        Pictures are the samples, rows x columns x 3, of frames of one size.
        """
        if not 1 <= distance <= LEARNT:
            return
        place, start = distance - 1, still.astype(np.float32)
        way = prediction - start
        agreement, motion = (_together(way * other) for other in (truth - start, way))
        agreement = np.clip(agreement, LEAST_AGREED * motion, MOST_AGREED * motion)
        if agreement.shape == self._agreed[place].shape:
            agreement = KEPT * self._agreed[place] + agreement
            motion = KEPT * self._moved[place] + motion
        self._agreed[place], self._moved[place] = agreement, motion

    def at(self, distance: int) -> Floats:
        """Return the weights, 0 to 1, rows x columns, of a prediction `distance` ticks ahead; 1 x 1: one for all."""
        place, first = min(distance, LEARNT) - 1, FIRST[min(distance, len(FIRST)) - 1]
        trust = (self._agreed[place] + FIRST_WEIGHT * first) / (self._moved[place] + FIRST_WEIGHT)
        return np.asarray(np.clip(trust, 0, 1), np.float32)


def _together(values: Floats) -> Floats:
    """Return the mean over colours and TOGETHER samples a side, fewer at the border."""
    means = values.mean(2, dtype=np.float64)
    return np.asarray(_sums(means) / _sums(np.ones_like(means)), np.float32)


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    grid = np.pad(values, TOGETHER // 2 + 1)[:-1, :-1]
    total, side = np.cumsum(np.cumsum(grid, 0), 1), TOGETHER
    return np.asarray(total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side])
