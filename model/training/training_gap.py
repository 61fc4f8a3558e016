"""How much of a head's gain is lost on clips it was not trained on, at the same motion."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.mixing.head import MixingHead
from model.training.mixture_data import Store

#: Edges, in pixels a frame, of the classes of motion that are compared each with itself.
MOTIONS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
#: A class that has fewer samples on either side is left out.
FEWEST = 5


class TrainingGap(NamedTuple):
    """Mean gains over DIS as it was found, in dB, weighed by the motion of the clips kept back."""

    trained: float  #: on clips that the head was trained on
    kept_back: float  #: on the others


def training_gap(head: MixingHead, training_stores: Sequence[Store], kept_back: Store, count: int = 400) -> TrainingGap:
    """Compare a head's gain on up to `count` samples of either kind, class of motion by class of motion.

    Samples are cut to one size, that of the smaller ones. ValueError where no class has samples of both kinds.
    """
    side = min(store.target.shape[1] for store in (*training_stores, kept_back))
    training_gains = [_gains(head, store, count // len(training_stores), side) for store in training_stores]
    motion, gain = (np.concatenate(values) for values in zip(*training_gains, strict=True))
    other_motion, other_gain = _gains(head, kept_back, count, side)
    rows = []
    for low, high in itertools.pairwise(MOTIONS):
        ours, others = (
            gain[(motion >= low) & (motion < high)],
            other_gain[(other_motion >= low) & (other_motion < high)],
        )
        if min(len(ours), len(others)) >= FEWEST:
            rows.append((len(others), ours.mean(), others.mean()))
    if not rows:
        raise ValueError("training clips and the others have no motion in common")
    weights, means, other_means = np.array(rows).T
    return TrainingGap(float(np.average(means, weights=weights)), float(np.average(other_means, weights=weights)))


@torch.inference_mode()
def _gains(head: MixingHead, store: Store, count: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure mean motion in pixels and the gain over "carried" in dB, of evenly spaced samples."""
    names = head.config.candidates
    places = [store.candidates.index(name) for name in names]
    present = torch.tensor([[name != "network" for name in names]])
    rows = np.unique(np.linspace(0, len(store.clip) - 1, min(count, len(store.clip))).astype(int))
    motions, gains = [], []
    for start in range(0, len(rows), 8):
        frames, target, flow, _ = store.batch(rows[start : start + 8])
        frames, target, flow = frames[:, places, :, :side, :side], target[..., :side, :side], flow[..., :side, :side]
        answer = head(frames, flow, present.expand(len(frames), -1)).frame.clamp(0, 1)
        errors = [
            (guess - target).square().mean((1, 2, 3)).clamp(min=1e-8)
            for guess in (frames[:, names.index("carried")], answer)
        ]
        gains.append(10 * (errors[0] / errors[1]).log10())
        motions.append(flow.norm(dim=1).mean((1, 2)))
    return torch.cat(motions).numpy(), torch.cat(gains).numpy()
