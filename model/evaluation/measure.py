"""Scores every method on every window: the long part of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model import checkpoint, flops
from model.evaluation import baselines, rollout, scores
from model.evaluation.lpips import LPIPS
from model.evaluation.protocols import Window
from model.network import DMVFN

METRICS = ("psnr", "ssim", "ms_ssim", "lpips")


@dataclass(frozen=True, slots=True)
class Score:
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


class Shown(NamedTuple):
    """Frames kept for the page: one window of a clip."""

    clip: str
    window: int
    older: Tensor  #: 3xHxW
    newer: Tensor
    target: Tensor
    predictions: dict[str, Tensor]  #: by method, next frame
    flow: Tensor  #: 2xHxW pixels, to the newer frame, of `auto`
    route: str


@dataclass(frozen=True, slots=True)
class Measured:
    """All scores, and the windows to show."""

    scores: list[Score]
    shown: list[Shown]


def measure(
    network: DMVFN,
    found: Iterable[Window],
    device: torch.device,
    lpips: LPIPS | None = None,
    budget_steps: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Score the baselines, `full`, `auto` and each block budget; budgets for the first `budget_steps` steps only."""
    collected: list[Score] = []
    shown: dict[str, Shown] = {}
    bgr = checkpoint.metadata(network).colour_order == "BGR"
    policies = rollout.policies(network.config.blocks)
    for number, window in enumerate(found):
        targets = [rollout.tensor(target, device) for target in window.targets]
        predictions: dict[str, Tensor] = {}

        def judge(method: str, frames: list[Tensor], macs: list[float], routes: list[str]) -> None:
            predictions[method] = frames[0][0].cpu()  # noqa: B023  # called in this round only
            for step, (frame, target) in enumerate(zip(frames, targets, strict=False), 1):  # noqa: B023
                figures = _figures(frame, target, lpips)
                collected.append(
                    Score(method, window.clip, number, step, *figures, macs[step - 1], routes[step - 1])  # noqa: B023
                )

        for name, baseline in baselines.BASELINES.items():
            frames = baseline(window.older, window.newer, len(targets))
            judge(name, [rollout.tensor(f, device) for f in frames], [0.0] * len(frames), [""] * len(frames))
        older, newer = (_ordered(rollout.tensor(f, device), bgr) for f in (window.older, window.newer))
        rollouts = rollout.Rollouts(network, older, newer)
        for policy in policies:
            steps = len(targets) if policy.budget is None else min(budget_steps, len(targets))
            answers = rollouts.run(policy, steps)
            judge(
                policy.name,
                [_ordered(answer.frame, bgr) for answer in answers],
                [_macs(network, answer, asked=policy.name != "full") for answer in answers],
                [answer.route for answer in answers],
            )
            if policy.name == "auto" and window.clip not in shown:
                shown[window.clip] = Shown(
                    window.clip,
                    number,
                    rollout.tensor(window.older, device)[0].cpu(),
                    rollout.tensor(window.newer, device)[0].cpu(),
                    targets[0][0].cpu(),
                    predictions,
                    answers[0].flow[0, 2:4].cpu(),
                    answers[0].route,
                )
        progress(number + 1)
    return Measured(collected, list(shown.values()))


@torch.inference_mode()
def _figures(frame: Tensor, target: Tensor, lpips: LPIPS | None) -> tuple[float, float, float, float]:
    large = min(frame.shape[-2:]) >= scores.SHORTEST_SIDE
    return (
        float(scores.psnr(frame, target)),
        float(scores.ssim(frame, target)) if min(frame.shape[-2:]) >= scores.WINDOW else math.nan,
        float(scores.ms_ssim(frame, target)) if large else math.nan,
        # The published figures were taken on BGR frames.
        float(lpips(frame.flip(1), target.flip(1))) if lpips is not None else math.nan,
    )


def _macs(network: DMVFN, answer: rollout.Answer, asked: bool) -> float:
    height, width = answer.frame.shape[-2:]
    route = [digit == "1" for digit in answer.route]
    return float(flops.count(height, width, route, network.config, with_routing=asked))


def _ordered(frame: Tensor, bgr: bool) -> Tensor:
    return frame.flip(1) if bgr else frame
