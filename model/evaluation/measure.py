"""Scores every method on every window: the long part of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from model import checkpoint, flops
from model.dmvfn.network import DMVFN
from model.evaluation import baselines, rollout, scores
from model.evaluation.baselines import Baseline
from model.evaluation.lpips import LPIPS
from model.evaluation.protocols import Window

METRICS = ("psnr", "ssim", "ms_ssim", "lpips", "sharpness")


@dataclass(frozen=True, slots=True)
class WindowScore:
    """One method on one frame. A metric that cannot be had (size, weights) is nan."""

    method: str
    clip: str
    window: int
    step: int  #: 1 is the next frame
    psnr: float
    ssim: float
    ms_ssim: float
    lpips: float
    #: Multiply-adds of this frame, routing included where the method asks the router; 0 for baselines.
    macs: float
    route: str  #: one digit a block; empty for baselines
    #: Energy of the Laplacian over the target's.
    sharpness: float = math.nan


class Figures(NamedTuple):
    """One frame's metrics, in the order of METRICS."""

    psnr: float
    ssim: float
    ms_ssim: float
    lpips: float
    sharpness: float


class ShownWindow(NamedTuple):
    """Frames kept for the page: one window of a clip."""

    clip: str
    window: int
    previous: Tensor  #: 3xHxW
    current: Tensor
    target: Tensor
    predictions: dict[str, Tensor]  #: by method, next frame
    flow: Tensor  #: 2xHxW pixels, to the current frame, of `auto`
    route: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """All scores, the windows to show, and how long a frame takes."""

    scores: list[WindowScore]
    shown: list[ShownWindow]
    #: By method, of one frame of `timing`'s size; empty where nobody timed.
    milliseconds: dict[str, float] = field(default_factory=dict)


def measure(
    network: DMVFN,
    windows: Iterable[Window],
    device: torch.device,
    lpips: LPIPS | None = None,
    progress: Callable[[int], None] = lambda done: None,
    mixtures: Mapping[str, Baseline] | None = None,
) -> Measurement:
    """Score baselines, mixtures, `full` and `auto` on every window; block budgets on the first of each clip, at t+1.

    Budgets are many and slow, and a clip's first window says enough about what a block is worth.
    """
    scorer = _WindowScorer(network, {**baselines.BASELINES, **(mixtures or {})}, device, lpips, Measurement([], []))
    clips: set[str] = set()
    for number, window in enumerate(windows):
        scorer.score(window, number, is_first_of_clip=window.clip not in clips)
        clips.add(window.clip)
        progress(number + 1)
    return scorer.measurement


@dataclass(frozen=True, slots=True)
class _WindowScorer:
    """Adds the scores of one window after the other to `measurement`."""

    network: DMVFN
    methods: Mapping[str, Baseline]
    device: torch.device
    lpips: LPIPS | None
    measurement: Measurement

    def score(self, window: Window, number: int, *, is_first_of_clip: bool) -> None:
        """Score all methods on a window, block budgets and pictures to show on the first of a clip only."""
        network, device, lpips, measurement = self.network, self.device, self.lpips, self.measurement
        targets = [rollout.tensor(target, device) for target in window.targets]
        predictions: dict[str, Tensor] = {}
        for name, baseline in self.methods.items():
            frames = [rollout.tensor(f, device) for f in baseline(window.previous, window.current, len(targets))]
            predictions[name] = frames[0][0].cpu()
            for step, (frame, target) in enumerate(zip(frames, targets, strict=True), 1):
                figures = _figures(frame, target, lpips)
                measurement.scores.append(_score(name, window.clip, number, step, figures, 0.0, ""))
        bgr = checkpoint.metadata(network).colour_order == "BGR"
        previous, current = (rollout.tensor(frame, device) for frame in (window.previous, window.current))
        rollouts = rollout.Rollouts(network, _ordered(previous, bgr), _ordered(current, bgr))
        # Policies that took the same routes share their frame, and so its figures.
        figures_of: dict[tuple[str, ...], Figures] = {}
        flow, route = previous, ""
        for policy in rollout.policies(network.config.blocks):
            if policy.budget is not None and not is_first_of_clip:
                continue
            answers = rollouts.run(policy, 1 if policy.budget is not None else len(targets))
            predictions[policy.name] = _ordered(answers[0].frame, bgr)[0].cpu()
            if policy.name == "auto":
                flow, route = answers[0].flow, answers[0].route
            history: tuple[str, ...] = ()
            for step, (answer, target) in enumerate(zip(answers, targets, strict=False), 1):
                history = (*history, answer.route)
                if history not in figures_of:
                    figures_of[history] = _figures(_ordered(answer.frame, bgr), target, lpips)
                macs = _macs(network, answer, with_routing=policy.name != "full")
                measurement.scores.append(
                    _score(policy.name, window.clip, number, step, figures_of[history], macs, answer.route)
                )
        if is_first_of_clip:
            inputs = previous[0].cpu(), current[0].cpu(), targets[0][0].cpu()
            measurement.shown.append(ShownWindow(window.clip, number, *inputs, predictions, flow[0, 2:4].cpu(), route))


@torch.inference_mode()
def _figures(frame: Tensor, target: Tensor, lpips: LPIPS | None) -> Figures:
    single, multiple = math.nan, math.nan
    if min(frame.shape[-2:]) >= scores.SHORTEST_SIDE:
        single, multiple = (float(value) for value in scores.similarities(frame, target))
    elif min(frame.shape[-2:]) >= scores.WINDOW:
        single = float(scores.ssim(frame, target))
    return Figures(
        float(scores.psnr(frame, target)),
        single,
        multiple,
        # The published figures were taken on BGR frames.
        float(lpips(frame.flip(1), target.flip(1))) if lpips is not None else math.nan,
        float(scores.sharpness(frame, target)) if min(frame.shape[-2:]) > 2 else math.nan,
    )


def _score(method: str, clip: str, window: int, step: int, figures: Figures, macs: float, route: str) -> WindowScore:
    return WindowScore(method, clip, window, step, *figures[:4], macs, route, figures.sharpness)


def _macs(network: DMVFN, answer: rollout.RolloutAnswer, with_routing: bool) -> float:
    height, width = answer.frame.shape[-2:]
    route = [digit == "1" for digit in answer.route]
    return float(flops.count(height, width, route, network.config, with_routing=with_routing))


def _ordered(frame: Tensor, bgr: bool) -> Tensor:
    return frame.flip(1) if bgr else frame
