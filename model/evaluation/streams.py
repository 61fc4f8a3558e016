"""What lessons are worth to a stream (`model.mixing.lesson`): clips predicted pair after pair, with and without them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model.evaluation import scores
from model.evaluation.baselines import Floats, Frame
from model.evaluation.rollout import tensor
from model.mixing import predictor, reduced, weights
from model.mixing.lesson import Lesson


class StreamFigures(NamedTuple):
    """PSNR in dB and sharpness of what one pair alone gives, and of what the stream's lessons make of it."""

    alone: float
    taught: float
    alone_sharpness: float
    taught_sharpness: float


@dataclass(slots=True)
class StreamScores:
    """Figures by steps ahead and clip."""

    figures: dict[int, dict[str, list[StreamFigures]]] = field(default_factory=dict)

    def add(self, ahead: int, clip: str, answers: Sequence[Floats], target: Frame) -> None:
        """Score a frame HxWx3 in 0..1 that was predicted alone and one that was taught against the truth."""
        truth = tensor(target, torch.device("cpu"))
        frames = [tensor(answer, torch.device("cpu")).clamp(0, 1) for answer in answers]
        psnr = [float(scores.psnr(frame, truth)) for frame in frames]
        sharpness = [float(scores.sharpness(frame, truth)) for frame in frames]
        self.figures.setdefault(ahead, {}).setdefault(clip, []).append(StreamFigures(*psnr, *sharpness))

    def by_clip(self, ahead: int) -> Mapping[str, StreamFigures]:
        """Return each clip's means; nothing for what was not scored."""
        clips = self.figures.get(ahead, {})
        return {clip: StreamFigures(*np.nanmean(rows, axis=0).tolist()) for clip, rows in clips.items()}

    def gain(self, ahead: int) -> tuple[float, float]:
        """Return the mean gain over clips in dB, and its standard error: nan for a single clip."""
        gains = [figures.taught - figures.alone for figures in self.by_clip(ahead).values()]
        error = float(np.std(gains, ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.nan
        return float(np.mean(gains)), error


def measure(
    clips: Iterable[tuple[str, Sequence[Frame], frozenset[int]]], head: Path, scale: float, steps: int, every: int
) -> StreamScores:
    """Predict clips pair after pair, at `scale` of their size, and score every so many pairs to `steps` frames ahead.

    A clip is its name, its frames HxWx3 and the numbers of those that begin a scene, where a stream begins anew.
    """
    mixing, about = weights.load(head)
    result, start = StreamScores(), Lesson.start(mixing.config, is_crisp=about.crispness > 0 and scale == 1)

    def mix(pair: tuple[Frame, Frame], ahead: int, lesson: Lesson | None) -> predictor.Mixed | reduced.ReducedMixture:
        if scale == 1:
            return predictor.mix(*pair, None, mixing, about, ahead, lesson=lesson)
        return reduced.mix(*pair, mixing, about, scale, ahead, lesson=lesson)

    for name, frames, cuts in clips:
        lesson = start
        for number in range(1, len(frames) - steps):
            if number in cuts:
                lesson = start
                continue
            pair = np.ascontiguousarray(frames[number - 1]), np.ascontiguousarray(frames[number])
            taught = mix(pair, 1, lesson)
            if number % every == 0 and cuts.isdisjoint(range(number + 1, number + steps + 1)):
                for ahead in range(1, steps + 1):
                    answer = taught if ahead == 1 else mix(pair, ahead, lesson)
                    result.add(ahead, name, (mix(pair, ahead, None).frame, answer.frame), frames[number + ahead])
            assert taught.lesson is not None
            lesson = taught.lesson
    return result
