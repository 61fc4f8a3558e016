"""What moments t are worth and take: one prediction carried on, against a rollout and against repeating."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from model import checkpoint
from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.evaluation.baselines import Frame
from model.evaluation.protocols import Window
from model.evaluation.timing import HEIGHT, WIDTH
from model.inference import pixels
from model.inference.predict import FramePairs
from model.mixing import predictor, weights
from model.motion import carry

#: Frames ahead that are compared, and the moment between two frames, of a pair that lies two frames apart.
STEPS, HALF = 5, 0.5
#: Horizon whose time is compared with that of one frame.
FAR = 8

#: Two frames HxWx3 and moments -> as many frames HxWx3 uint8.
Way = Callable[[Frame, Frame, Sequence[float]], list[Frame]]


@dataclass(slots=True)
class MomentScores:
    """PSNR in dB by (way, moment), one figure a window; clips in the same order."""

    clips: list[str] = field(default_factory=list)
    figures: dict[tuple[str, float], list[float]] = field(default_factory=dict)

    def add(self, way: str, t: float, frame: Frame, target: Frame) -> None:
        """Score one frame against the truth."""
        self.figures.setdefault((way, t), []).append(_psnr(frame, target))

    def mean(self, way: str, t: float) -> float:
        """Return the mean over clips of each clip's mean."""
        by_clip: dict[str, list[float]] = {}
        for clip, figure in zip(self.clips, self.figures[way, t], strict=True):
            by_clip.setdefault(clip, []).append(figure)
        return float(np.mean([np.mean(figures) for figures in by_clip.values()]))


def ways(network: DMVFN, head: Path) -> dict[str, tuple[Way, Way]]:
    """Build for `dmvfn` and `flow` the rollout, which takes whole moments 1, 2, ..., and the carried way."""
    mixing, about = weights.load(head)

    def rolled_mixture(previous: Frame, current: Frame, times: Sequence[float]) -> list[Frame]:
        answers = predictor.rollout(previous, current, len(times), None, mixing, about)
        return [predictor.rounded(answer.frame) for answer in answers]

    def carried_mixture(previous: Frame, current: Frame, times: Sequence[float]) -> list[Frame]:
        mixture = predictor.mix(previous, current, None, mixing, about)
        others = [t for t in times if t != 1]
        frames = {
            others[place]: frame for place, frame in carry.corrected(current, mixture.flow, mixture.frame, others)
        }
        return [frames[t] if t in frames else predictor.rounded(mixture.frame) for t in times]

    return {
        "dmvfn": (_rolled_network(network), _carried_network(network)),
        "flow": (rolled_mixture, carried_mixture),
    }


def _rolled_network(network: DMVFN) -> Way:
    def predict(previous: Frame, current: Frame, times: Sequence[float]) -> list[Frame]:
        frames, (first, second) = [], _tensors(network, previous, current)
        for _ in times:
            pairs = FramePairs(network, first, second)
            first, second = second, pairs.predict(routing.auto(pairs.probabilities())).frame
            frames.append(_picture(network, second))
        return frames

    return predict


def _carried_network(network: DMVFN) -> Way:
    def predict(previous: Frame, current: Frame, times: Sequence[float]) -> list[Frame]:
        first, second = _tensors(network, previous, current)
        pairs = FramePairs(network, first, second)
        answer = pairs.predict(routing.auto(pairs.probabilities()))
        others = [t for t in times if t != 1]
        flow = answer.flow[0].permute(1, 2, 0).contiguous().numpy()
        to_previous, to_current = (np.ascontiguousarray(flow[..., side : side + 2]) for side in (0, 2))
        weight = answer.mask[0, 0].sigmoid().contiguous().numpy()
        motions = carry.maps(to_previous, to_current, weight, others)
        frames = {others[m.place]: carry.blended(previous, current, m, others[m.place]) for m in motions}
        return [frames[t] if t in frames else _picture(network, answer.frame) for t in times]

    return predict


def measure(
    methods: Mapping[str, tuple[Way, Way]], windows: Iterable[Window], progress: Callable[[int], None]
) -> MomentScores:
    """Score both ways at 1..STEPS, and the carried one at HALF, on windows of STEPS targets."""
    scores, whole = MomentScores(), range(1, STEPS + 1)
    for number, window in enumerate(windows, 1):
        scores.clips.append(window.clip)
        repeats = {"repeat": ([window.current] * STEPS, [window.current] * STEPS)}
        answers = {
            name: (roll(window.previous, window.current, whole), carry_on(window.previous, window.current, whole))
            for name, (roll, carry_on) in methods.items()
        }
        for name, (by_steps, by_moments) in {**repeats, **answers}.items():
            for t, target in zip(whole, window.targets, strict=True):
                scores.add(f"{name}, steps", t, by_steps[t - 1], target)
                scores.add(f"{name}, t", t, by_moments[t - 1], target)
        # The newer frame is the second after the older one, so half-way to the next is the frame after it.
        newer, between = window.targets[0], window.targets[1]
        scores.add("repeat, t", HALF, newer, between)
        for name, (_, carry_on) in methods.items():
            scores.add(f"{name}, t", HALF, carry_on(window.previous, newer, (HALF,))[0], between)
        progress(number)
    return scores


def horizons(methods: Mapping[str, tuple[Way, Way]], pair: tuple[Frame, Frame], tries: int) -> dict[str, list[float]]:
    """Time one frame, FAR carried and FAR rolled by each method: ms of one thread, for frames of HEIGHT x WIDTH.

    Processor time. The ways take turns and the least of `tries` counts, so that neighbours matter little.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        older, newer = (
            np.asarray(cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8) for frame in pair
        )
        least = {name: [float("inf")] * 3 for name in methods}
        far = range(1, FAR + 1)
        for _ in range(tries):
            for name, (roll, carry_on) in methods.items():
                for place, (way, times) in enumerate(((carry_on, (1,)), (carry_on, far), (roll, far))):
                    began = time.process_time()
                    way(older, newer, times)
                    least[name][place] = min(least[name][place], (time.process_time() - began) * 1000)
        return least
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _psnr(frame: Frame, target: Frame) -> float:
    error = np.square(frame.astype(np.float64) - target).mean() / 255**2
    return float(-10 * np.log10(error + 1e-12))


def _tensors(network: DMVFN, *frames: Frame) -> list[torch.Tensor]:
    return [pixels.to_frames([frame], torch.device("cpu"), bgr=_is_bgr(network)) for frame in frames]


def _picture(network: DMVFN, frame: torch.Tensor) -> Frame:
    return np.asarray(pixels.to_pictures(frame[0], bgr=_is_bgr(network)).numpy(), np.uint8)


def _is_bgr(network: DMVFN) -> bool:
    return checkpoint.metadata(network).colour_order == "BGR"
