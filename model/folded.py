"""A block's weights in the form the CPU path multiplies them: rewritten once, when a network is prepared.

Equal in real arithmetic to the published layers; tests compare with them. Knows no frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import winograd
from model.blocks import VoxelFlowBlock

Array = npt.NDArray[np.float32]

#: Channels are padded with zeros to whole vectors of the processor.
LANES = 8
#: A pixel of flow and mask with one unused place, and the 4x4 window of them that the last layer adds to.
VALUES = 6
WINDOW = 16 * VALUES


@dataclass(frozen=True, slots=True)
class Convolution:
    """A direct convolution; PReLU slopes apart, for the caller."""

    weight: Tensor  #: OxIx3x3, channels last
    bias: Tensor  #: O
    slopes: Array  #: O
    stride: int

    def __call__(self, maps: Array) -> Array:
        """HxWxI -> (H/stride)x(W/stride)xO, before the activation."""
        seen = torch.from_numpy(maps)[None].permute(0, 3, 1, 2)
        out = F.conv2d(seen, self.weight, self.bias, self.stride, 1)
        return out.permute(0, 2, 3, 1)[0].contiguous().numpy()


@dataclass(frozen=True, slots=True)
class Products:
    """A 3x3 convolution of stride 1 as 36 matrix products."""

    weight: Tensor  #: 36xIxO
    activation: Array  #: 2xO: biases, slopes


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """One voxel-flow block. `*_first` stand in where the block is the first to run: its input is two frames."""

    scale: int
    entry: tuple[Convolution, Convolution]
    entry_first: Convolution
    body: tuple[Products, Products, Products]
    squeeze: Products
    spatial: tuple[Convolution, Convolution]
    spatial_first: Convolution
    taps: Tensor  #: (squeezed channels)x96
    spatial_taps: Array  #: 8x96
    bias: Array  #: 6


def fold(block: VoxelFlowBlock) -> FoldedBlock:
    """Rewrite the weights of `block`; at most 8 spatial channels."""
    stem, second = _parts(block.conv0, 0), _parts(block.conv0, 1)
    weight = stem[0].clone()
    # The flow reaches this layer in pixels of the reduced frame.
    weight[:, 13:] /= block.scale
    stem = (weight, *stem[1:])
    spatial, spatial_second = _parts(block.conv1, 0), _parts(block.convblock1, 0)
    squeezed = len(block.conv_sq.get_parameter("0.bias"))
    # The transposed convolution's I x 5 x ky x kx, in the order its windows lie in the state: ky, kx, value.
    last = F.pad(block.lastconv.weight.detach().permute(0, 2, 3, 1), (0, 1)).reshape(-1, WINDOW)
    bias = block.lastconv.bias
    assert bias is not None
    return FoldedBlock(
        scale=block.scale,
        entry=(_direct(stem, 2), _direct(second, 2)),
        entry_first=_direct(_without_state(stem), 2),
        body=(
            _products(_parts(block.convblock, 0)),
            _products(_parts(block.convblock, 1)),
            _products(_parts(block.convblock, 2)),
        ),
        squeeze=_products(_pair(block.conv_sq)),
        spatial=(_direct(spatial, 2), _direct(spatial_second, 1)),
        spatial_first=_direct(_without_state(spatial), 2),
        taps=_pad(last[:squeezed], 0).contiguous(),
        spatial_taps=_pad(last[squeezed:], 0).contiguous().numpy(),
        bias=F.pad(bias.detach(), (0, 1)).numpy(),
    )


_Parts = tuple[Tensor, Tensor, Tensor]


def _parts(layers: nn.Sequential, index: int) -> _Parts:
    """Weight, bias and slopes of the convolution-and-PReLU pair `index`."""
    return _pair(layers.get_submodule(str(index)))


def _pair(layer: nn.Module) -> _Parts:
    """Weight, bias and slopes of a convolution and its PReLU."""
    return layer.get_parameter("0.weight"), layer.get_parameter("0.bias"), layer.get_parameter("1.weight")


def _without_state(parts: _Parts) -> _Parts:
    """For the first block: both warped frames are the frames themselves, mask and flow are zero."""
    weight = parts[0][:, :6] + parts[0][:, 6:12]
    return weight, parts[1], parts[2]


def _pad(tensor: Tensor, dim: int) -> Tensor:
    """Zeros after the end of `dim`, up to a multiple of LANES."""
    missing = -tensor.shape[dim] % LANES
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat((tensor.detach(), tensor.new_zeros(shape)), dim) if missing else tensor.detach()


def _direct(parts: _Parts, stride: int) -> Convolution:
    weight, bias, slopes = (_pad(part, 0) for part in parts)
    if weight.shape[1] not in (6, 17):
        weight = _pad(weight, 1)  # its input was padded as well
    return Convolution(
        weight.contiguous(memory_format=torch.channels_last), bias.clone(), slopes.clone().numpy(), stride
    )


def _products(parts: _Parts) -> Products:
    weight, bias, slopes = parts
    padded = _pad(_pad(weight, 0), 1)
    return Products(winograd.weights(padded), torch.stack((_pad(bias, 0), _pad(slopes, 0))).numpy())
