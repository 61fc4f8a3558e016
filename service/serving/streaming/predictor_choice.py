"""Chooses what predicts a stream, by how much better another predictor was on pairs that both predicted.

Now and then another one predicts the same pair, and the frame that comes tells which was nearer. Only differences on
one frame are compared, so that it does not matter how hard a frame is. Knows no time, no transport and no engine.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from service.core.types import Frame, Method, Options, PredictResult, Quality
from service.serving.streaming.online_score import OnlineScore

#: Predictions from one trial to the next: while little is known of a predictor, and later.
TRIED_FIRST, TRIED_LATER = 4, 16
#: Comparisons of one predictor that are remembered, and those that a change needs.
REMEMBERED, NEEDED = 12, 6
#: By how much it must be better on average, dB, and by how many standard errors.
BETTER_DB, BETTER_ERRORS = 0.3, 2.0
#: Two predictions differ by no more: where one is exact, its PSNR says nothing.
MOST_DB_APART = 6.0
#: Trials whose truth has not come yet.
MOST_OPEN = 32


class StreamPredictor(enum.StrEnum):
    """What may predict a stream."""

    FLOW = "flow"
    LIVE = "live"  #: flow by the quickest head
    MIX = "mix"
    NETWORK = "dmvfn"

    def options(self, options: Options, default: Method) -> Options:
        """Return a stream's options with this predictor named, but for the `default`, which needs no name."""
        if self.value == default.value:
            return options
        if self is StreamPredictor.LIVE:
            return replace(options, method=Method.FLOW, quality=Quality.FAST)
        return replace(options, method=Method(self.value))


def available(methods: Collection[Method], default: Method, *, is_adaptive: bool) -> tuple[StreamPredictor, ...]:
    """List the predictors of a device that serves `methods`, its default first.

    For adaptive requests only those that leave them every way to be in time: whoever names another one gives that up.
    """
    by_rank = sorted(methods, key=lambda method: method is not default)
    if is_adaptive:
        return tuple(StreamPredictor(method.value) for method in by_rank if method in (default, Method.FLOW))
    predictors = tuple(StreamPredictor(method.value) for method in by_rank)
    return (*predictors, StreamPredictor.LIVE) if Method.FLOW in methods else predictors


class PredictorChoice:
    """The predictor of one stream, `current`, among `predictors`, whose first is the one to begin with."""

    def __init__(self, predictors: Sequence[StreamPredictor]) -> None:
        self.current = predictors[0]
        self._predictors = tuple(predictors)
        self._begin()

    def _begin(self) -> None:
        others = [predictor for predictor in self._predictors if predictor is not self.current]
        #: How much better each other one was, dB; whose turn it is comes first.
        self._differences = OrderedDict((other, deque[float](maxlen=REMEMBERED)) for other in others)
        self._since = 0

    def trial(self) -> StreamPredictor | None:
        """Count a prediction; return who is to predict its pair, too, if anybody."""
        self._since += 1
        is_known = all(len(differences) >= NEEDED for differences in self._differences.values())
        if not self._differences or self._since < (TRIED_LATER if is_known else TRIED_FIRST):
            return None
        self._since = 0
        other = next(iter(self._differences))
        self._differences.move_to_end(other)
        return other

    def compared(self, other: StreamPredictor, difference_db: float) -> bool:
        """Take by how much `other` was better on one frame; return True if it is the current one from now on."""
        differences = self._differences.get(other)
        if differences is None:
            return False  # of before a change
        differences.append(max(-MOST_DB_APART, min(MOST_DB_APART, difference_db)))
        count = len(differences)
        if count < NEEDED:
            return False
        mean = math.fsum(differences) / count
        variance = math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1)
        if mean < max(BETTER_DB, BETTER_ERRORS * math.sqrt(variance / count)):
            return False
        self.current = other
        self._begin()
        return True


class PairedScore:
    """Compares what two predictors made of the same pairs, once their truth is here."""

    def __init__(self) -> None:
        self._ours, self._theirs = OnlineScore(), OnlineScore()
        self._trials: OrderedDict[int, StreamPredictor] = OrderedDict()  #: by the sequence of the frame predicted from

    def arrived(
        self, sequence: int, time_us: int | None, frame: Frame, *, begins_pair: bool
    ) -> tuple[StreamPredictor, float] | None:
        """Take a frame as truth; return who was tried for its time, and by how many dB that was better."""
        ours, theirs = (
            score.arrived(sequence, time_us, frame, begins_pair=begins_pair) for score in (self._ours, self._theirs)
        )
        if ours is None or theirs is None or (other := self._trials.get(theirs.sequence)) is None:
            return None
        return other, theirs.psnr_db - ours.psnr_db

    def predicted(
        self,
        moment: tuple[int, int | None, int | None],
        current: Frame,
        ours: PredictResult,
        theirs: PredictResult,
        other: StreamPredictor,
    ) -> list[tuple[StreamPredictor, float]]:
        """Take what both predicted from `current`; return what is known already, as `arrived` does.

        `moment`: the frame's sequence, when it was shown and how long after the one before, as `OnlineScore.predicted`.
        """
        self._trials[moment[0]] = other
        while len(self._trials) > MOST_OPEN:
            self._trials.popitem(last=False)
        scores = zip(
            self._ours.predicted(*moment, current, ours), self._theirs.predicted(*moment, current, theirs), strict=True
        )
        return [(other, second.psnr_db - first.psnr_db) for first, second in scores]
