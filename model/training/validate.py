"""A quick score while training: PSNR of the next frame on a few triples of every clip of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.inference import predict as inference
from model.training import clips, decode

#: Triples looked at in each clip.
TRIPLES = 5


@dataclass(frozen=True, slots=True)
class Triples:
    """The evenly spaced triples of one clip, Tx3xHxWx3 uint8."""

    name: str
    frames: Tensor


def load(folder: str | Path) -> list[Triples]:
    """Load the triples of every clip below `folder` with at least three frames."""
    triples = []
    for clip in clips.find(folder, "clips"):
        frames = torch.from_numpy(decode.array(clip))
        spare = len(frames) - 3
        if spare >= 0:
            starts = sorted({round(i * spare / (TRIPLES - 1)) for i in range(TRIPLES)})
            triples.append(Triples(clip.name, torch.stack([frames[s : s + 3] for s in starts])))
    return triples


def psnr(network: DMVFN, triples: list[Triples], route: Tensor, device: torch.device) -> tuple[float, float]:
    """Average, over clips, the mean PSNR (dB): of the network along `route` (N bool), and of repeating the frame."""
    ours, baseline = [], []
    for clip in triples:
        scores = []
        for triple in clip.frames:
            previous, current, target = (triple.to(device).permute(0, 3, 1, 2).float() / 255).split(1)
            frame = inference.predict(network, previous, current, route[None].to(device)).frame
            scores.append((decibels(frame, target), decibels(current, target)))
        ours.append(sum(a for a, _ in scores) / len(scores))
        baseline.append(sum(b for _, b in scores) / len(scores))
    return sum(ours) / len(ours), sum(baseline) / len(baseline)


def decibels(prediction: Tensor, target: Tensor) -> float:
    """Compute PSNR of frames in 0..1, all samples together; at most 100 dB."""
    return float(-10 * (prediction - target).square().mean().clamp(min=1e-10).log10())
