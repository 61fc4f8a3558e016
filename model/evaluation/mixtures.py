"""The mixtures as methods of an evaluation, beside the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.dmvfn.network import DMVFN
from model.evaluation.baselines import Baseline, Floats, Frame
from model.mixing import predictor, reduced, weights


def methods(network: DMVFN, default: Path, live: Path, sharp: Path) -> dict[str, Baseline]:
    """Build the mixtures of the heads in these files; a head whose file is absent is left out."""
    mixtures: dict[str, Baseline] = {"mean of three": mean_of_three(network)}
    if default.is_file():
        mixtures["flow"] = with_head(None, default)
        if "network" in weights.load(default)[0].config.candidates:
            mixtures["mix"] = with_head(network, default)
    if sharp.is_file():
        mixtures["sharp"] = with_head(None, sharp)
    if live.is_file():
        mixtures["live"] = with_head(None, live)
        mixtures["live at 1/2"] = with_head_at(0.5, live)
    return mixtures


def with_head(network: DMVFN | None, path: Path) -> Baseline:
    """Build a learnt head's mixture, with the network's answer among its candidates or without."""
    head, about = weights.load(path)

    def predict(previous: Frame, current: Frame, steps: int) -> list[Floats]:
        return [answer.frame for answer in predictor.rollout(previous, current, steps, network, head, about)]

    return predict


def with_head_at(scale: float, path: Path) -> Baseline:
    """Build a learnt head's mixture at a part of the size."""
    head, about = weights.load(path)

    def predict(previous: Frame, current: Frame, steps: int) -> list[Floats]:
        answers = [reduced.mix(previous, current, head, about, scale)]
        for ahead in range(2, steps + 1):
            answers.append(reduced.mix(previous, current, head, about, scale, ahead, answers[0].motions))
        return [answer.frame for answer in answers]

    return predict


def mean_of_three(network: DMVFN) -> Baseline:
    """Build the mixture without learnt weights: DIS as it is, projected, and the network at half size, a third each."""

    def predict(previous: Frame, current: Frame, steps: int) -> list[Floats]:
        frames: list[Floats] = []
        for _ in range(steps):
            third = predictor.network_answer(network, previous, current).frame.astype(np.float32) / 255
            mean = (2 * predictor.mean(previous, current) + third) / 3
            frames.append(np.asarray(mean, np.float32))
            previous, current = current, predictor.rounded(frames[-1])
        return frames

    return predict
