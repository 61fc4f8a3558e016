"""The learnt head: looks at all candidates at half size and says how much of each makes up the frame, where.

Tensors only; what the candidates are is `model.mixing.candidates`' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Frame differences are multiplied by this and flows (pixels) divided by FLOW_RANGE: both then lie around 1.
DIFFERENCE_GAIN, FLOW_RANGE = 4.0, 8.0
#: Largest amount of the difference between the first candidate and its softened copy that is added or taken away.
MOST_DETAIL = 1.0
#: Logit of a candidate that is absent.
ABSENT = -1e4
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """A head's candidates, by name and in the order of its weights, and its size."""

    candidates: tuple[str, ...]
    #: Channels at a half, a quarter and an eighth of the frame.
    widths: tuple[int, int, int] = (16, 32, 64)

    def __post_init__(self) -> None:
        """Raise ValueError for candidates or widths that no head can have."""
        if len(set(self.candidates)) != len(self.candidates) or min(self.widths) < 1:
            raise ValueError(f"candidates that differ and positive widths expected, not {self}")
        if self.candidates[:1] != ("projected",) or "soft" not in self.candidates:
            raise ValueError(f"the first candidate must be projected, and soft among the others, not {self}")

    @property
    def without_network(self) -> tuple[str, ...]:
        """Return the candidates that need no network."""
        return tuple(name for name in self.candidates if name != "network")


class Mixture(NamedTuple):
    """What a head answers for a batch."""

    frame: Tensor  #: Bx3xHxW in 0..1
    weights: Tensor  #: BxKxhxw at half size (rounded up): shares of the candidates, 1 in all


class MixingHead(nn.Module):
    """A small encoder and decoder over the differences between candidates."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        kinds, (fine, middle, coarse) = len(config.candidates), config.widths
        self.enter = _layer(3 + (kinds - 1) + 2, fine, 2)
        self.middle = nn.Sequential(_layer(fine, middle, 2), _layer(middle, middle))
        self.coarse = nn.Sequential(_layer(middle, coarse, 2), _layer(coarse, coarse), _layer(coarse, coarse))
        self.up_middle = _layer(coarse + middle, middle)
        self.up_fine = _layer(middle + fine, fine)
        self.leave = nn.Conv2d(fine, kinds + 1, 3, 1, 1)
        with torch.no_grad():
            self.leave.weight.zero_()
            self.leave.bias.zero_()  # type: ignore[union-attr]  # there is one
            self.leave.bias[0] = 1.0  # type: ignore[index]

    def features(self, candidates: Tensor, flow: Tensor, present: Tensor | None = None) -> Tensor:
        """Compute the first layer's input Bx(K+4)xHxW from candidates BxKx3xHxW in 0..1 and flow Bx2xHxW in pixels."""
        luma = candidates.new_tensor(_LUMA).view(1, 1, 3, 1, 1)
        levels = (candidates * luma).sum(2)
        first = candidates[:, 0] - 0.5
        differences = (levels[:, 1:] - levels[:, :1]) * DIFFERENCE_GAIN
        if present is not None:
            differences = differences * present[:, 1:, None, None]
        return torch.cat((first, differences, flow / FLOW_RANGE), 1)

    def logits(self, features: Tensor) -> Tensor:
        """Compute one logit a candidate, and the detail: Bx(K+4)xHxW, sides multiples of 8 -> Bx(K+1)xH/2xW/2."""
        fine = self.enter(features)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.up_middle(torch.cat((_doubled(coarse), middle), 1))
        fine = self.up_fine(torch.cat((_doubled(middle), fine), 1))
        out: Tensor = self.leave(fine)
        return out

    def forward(self, candidates: Tensor, flow: Tensor, present: Tensor | None = None) -> Mixture:
        """Mix candidates BxKx3xHxW in 0..1 along flow Bx2xHxW in pixels; `present` BxK bool marks those there are.

        Sides must be multiples of 8. A candidate that is absent is treated as equal to the first and weighs nothing.
        """
        out = self.logits(self.features(candidates, flow, present))
        logits, detail = out[:, :-1], out[:, -1:]
        if present is not None:
            logits = logits.masked_fill(~present[:, :, None, None], ABSENT)
        weights = logits.softmax(1)
        frame = (candidates * _enlarged(weights)[:, :, None]).sum(1)
        soft = self.config.candidates.index("soft")
        amount = _enlarged(detail.clamp(-MOST_DETAIL, MOST_DETAIL))
        frame = frame + amount * (candidates[:, 0] - candidates[:, soft])
        return Mixture(frame, weights)


def sharpened(mixture: Mixture, moving: Sequence[int], first: Tensor, crisp: Tensor, crispness: float) -> Tensor:
    """Add what a bicubic warp `crisp` BxCxHxW keeps and the bilinear `first` lost to a mixture's frame.

    `crispness` times, as far as the candidates at the places `moving` weigh.
    """
    share = _enlarged(mixture.weights[:, list(moving)].sum(1, keepdim=True))
    return mixture.frame + crispness * share * (crisp - first)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True))


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def _enlarged(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
