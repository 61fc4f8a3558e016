"""Scores a stream's predictions by the frames that come later: each is the truth of the last prediction for its time.

On samples of both, so that a frame costs the same at any size. Knows no time, no transport and no engine.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.core.types import Frame, Method, PredictResult

#: Samples a side at most: 96 x 160 of them tell the mean error of a picture to a few hundredths of a dB.
ROWS, COLUMNS = 96, 160
#: Where two pictures are the same: no more dB than this.
MOST_DB = 60.0
#: Part of an interval by which a frame may be early or late and still be the truth of a prediction.
TOLERANCE = 0.1
#: Predictions that wait for their truth, and truths that wait for their prediction.
MOST_WAITING, MOST_TRUTHS = 16, 8
#: Intervals up to which a prediction counts as one of the next frame.
NEXT = 1.5

Samples = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MomentScore:
    """One prediction against its truth, dB. `repeated_db`: of the frame it was predicted from, shown again."""

    psnr_db: float
    repeated_db: float
    intervals: float  #: from that frame to the truth
    method: Method
    version: str
    sequence: int  #: of that frame

    @property
    def gain_db(self) -> float:
        """Return how much better it was than repeating."""
        return self.psnr_db - self.repeated_db

    @property
    def is_next(self) -> bool:
        """Tell whether it foresaw the next frame, and none further ahead."""
        return self.intervals <= NEXT


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What a stream is told: the last score, and the means of all `frames` that were scored, dB."""

    frames: int
    psnr_db: float
    gain_db: float
    mean_psnr_db: float
    mean_gain_db: float


def samples(frame: Frame) -> Samples:
    """Return at most ROWS x COLUMNS pixels of a frame, evenly apart."""
    rows, columns = -(-frame.height // ROWS), -(-frame.width // COLUMNS)
    return np.ascontiguousarray(frame.pixels[rows // 2 :: rows, columns // 2 :: columns])


def psnr(truth: Samples, picture: Samples) -> float:
    """Return the peak signal-to-noise ratio of two pictures of one size, dB, at most MOST_DB."""
    difference = truth.astype(np.int16) - picture
    error = float(np.mean(np.square(difference, dtype=np.int32)))
    return MOST_DB if error <= 0 else min(MOST_DB, 10 * math.log10(255 * 255 / error))


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    sequence: int
    time_us: int | None
    picture: Samples


@dataclass(frozen=True, slots=True, eq=False)
class _Expectation:
    sequence: int  #: of the frame it was predicted from
    moment: float  #: microseconds on the client's clock, or frames counted
    tolerance: float
    is_timed: bool
    intervals: float
    picture: Samples
    repeated: Samples
    method: Method
    version: str

    def is_of(self, truth: _Truth) -> bool:
        place = truth.time_us if self.is_timed else truth.sequence
        return place is not None and truth.sequence > self.sequence and abs(place - self.moment) <= self.tolerance


class OnlineScore:
    """What waits to be compared in one stream, and the means so far."""

    def __init__(self) -> None:
        self._waiting: list[_Expectation] = []
        self._truths: OrderedDict[int, _Truth] = OrderedDict()  #: not yet scored, by sequence
        self._scene_start = 0
        self._frames = 0
        self._sums = (0.0, 0.0)
        self._report: ScoreReport | None = None

    def arrived(self, sequence: int, time_us: int | None, frame: Frame, *, begins_pair: bool) -> MomentScore | None:
        """Take a frame as truth; return the score of the last prediction for its time, if that is here already.

        One that `begins_pair` is no truth: nothing led to it.
        """
        if begins_pair:
            self._waiting.clear()
            self._truths.clear()
            self._scene_start = sequence
            return None
        truth = _Truth(sequence, time_us, samples(frame))
        fitting = [waiting for waiting in self._waiting if waiting.is_of(truth)]
        if fitting:
            return self._scored(max(fitting, key=lambda waiting: waiting.sequence), truth)
        self._truths[sequence] = truth
        while len(self._truths) > MOST_TRUTHS:
            self._truths.popitem(last=False)
        return None

    def predicted(
        self, sequence: int, time_us: int | None, pace_us: int | None, current: Frame, result: PredictResult
    ) -> list[MomentScore]:
        """Take what was predicted from frame `sequence`; return the scores of what has its truth already.

        `time_us`, `pace_us`: when that frame was shown and how long after the one before, where the client tells.
        """
        if sequence < self._scene_start:
            return []
        scores, repeat = [], samples(current)
        for t, step in zip(result.times, result.steps, strict=True):
            if time_us is None or pace_us is None or pace_us <= 0:
                moment, tolerance, is_timed = sequence + t, 0.0, False
            else:
                moment, tolerance, is_timed = time_us + pace_us * t, TOLERANCE * pace_us, True
            expectation = _Expectation(
                *(sequence, moment, tolerance, is_timed, t, samples(step.frame), repeat),
                *(step.method, result.model_version),
            )
            truth = next((truth for truth in self._truths.values() if expectation.is_of(truth)), None)
            if truth is None:
                self._waiting.append(expectation)
            else:
                scores.append(self._scored(expectation, truth))
        del self._waiting[:-MOST_WAITING]
        return scores

    def report(self) -> ScoreReport | None:
        """Return the last score and the means; None before the first. From any thread."""
        return self._report

    def _scored(self, expectation: _Expectation, truth: _Truth) -> MomentScore:
        self._waiting = [waiting for waiting in self._waiting if not waiting.is_of(truth)]
        self._truths.pop(truth.sequence, None)
        score = MomentScore(
            psnr(truth.picture, expectation.picture),
            psnr(truth.picture, expectation.repeated),
            expectation.intervals,
            expectation.method,
            expectation.version,
            expectation.sequence,
        )
        self._frames += 1
        self._sums = (self._sums[0] + score.psnr_db, self._sums[1] + score.gain_db)
        means = (total / self._frames for total in self._sums)
        self._report = ScoreReport(self._frames, score.psnr_db, score.gain_db, *means)
        return score
