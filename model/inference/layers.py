"""Reads a block's convolutions: weights, biases, slopes, and zeros behind them up to whole vectors.

What the forms of the CPU and of the GPU path have in common. Knows no frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.dmvfn.block import SEEN_CHANNELS, VoxelFlowBlock

#: Channels are padded with zeros to a multiple of this: whole vectors of a processor, whole tiles of a tensor core.
LANES = 8


class LayerParameters(NamedTuple):
    """A convolution and its PReLU."""

    weight: Tensor  #: OxIx3x3
    bias: Tensor  #: O
    slopes: Tensor  #: O


def parts(layer: nn.Module) -> LayerParameters:
    """Return the parameters of a convolution-and-PReLU pair."""
    return LayerParameters(*(layer.get_parameter(name).detach() for name in ("0.weight", "0.bias", "1.weight")))


def part(layers: nn.Sequential, index: int) -> LayerParameters:
    """Return the parameters of the pair `index` of `layers`."""
    return parts(layers.get_submodule(str(index)))


def stem(block: VoxelFlowBlock) -> LayerParameters:
    """Return the parameters of the motion path's first convolution, for flow in pixels of the whole frame."""
    first = part(block.conv0, 0)
    weight = first.weight.clone()
    # The published layer gets it in pixels of the reduced frame.
    weight[:, SEEN_CHANNELS:] /= block.scale
    return first._replace(weight=weight)


def padded(tensor: Tensor, dim: int) -> Tensor:
    """Pad `dim` with zeros at its end, up to a multiple of LANES."""
    missing = -tensor.shape[dim] % LANES
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat((tensor, tensor.new_zeros(shape)), dim) if missing else tensor
