"""Flips, quarter turns, channel reversal, time reversal and gain, for a whole batch at once on its device.

The same change for every frame of a sample: motion stays what it is.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def augment(clips: Tensor, rng: Generator) -> Tensor:
    """Change triples Bx3x3xSxS (batch, time, colour, rows, columns; 0..1), each in its own way.

    `rng` is a generator of the CPU, so that the draw does not depend on the device. Time reversal is not in the
    published recipe: motion that is nearly constant is so backwards, too.
    """
    batch = clips.shape[0]
    clips = _where(_coin(batch, 0.5, rng), clips.flip(-1), clips)
    clips = _where(_coin(batch, 0.5, rng), clips.flip(-2), clips)
    clips = _where(_coin(batch, 0.5, rng), clips.transpose(-1, -2), clips)
    clips = _where(_coin(batch, 0.5, rng), clips.flip(2), clips)
    clips = _where(_coin(batch, 0.5, rng), clips.flip(1), clips)
    gain = 0.8 + 0.35 * torch.rand((batch, 1, 3, 1, 1), generator=rng)
    return (clips * gain.to(clips.device)).clamp(0, 1)


def _coin(batch: int, probability: float, rng: Generator) -> Tensor:
    return torch.rand(batch, generator=rng) < probability


def _where(mask: Tensor, variants: Tensor, originals: Tensor) -> Tensor:
    return torch.where(mask.to(originals.device).view(-1, 1, 1, 1, 1), variants, originals)
