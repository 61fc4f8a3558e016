"""A block's weights in the form the CPU path multiplies them: rewritten once, when a network is prepared.

Equal in real arithmetic to the published layers; tests compare with them. Knows no frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn.block import VoxelFlowBlock
from model.inference.cpu import winograd
from model.inference.layers import LayerParameters, padded, part, parts, stem

Array = npt.NDArray[np.float32]

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
        """Convolve HxWxI into (H/stride)x(W/stride)xO, before the activation."""
        inputs = torch.from_numpy(maps)[None].permute(0, 3, 1, 2)
        out = F.conv2d(inputs, self.weight, self.bias, self.stride, 1)
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
    first, second = stem(block), part(block.conv0, 1)
    spatial, spatial_second = part(block.conv1, 0), part(block.convblock1, 0)
    split = len(block.conv_sq.get_parameter("0.bias"))
    # The transposed convolution's I x 5 x ky x kx, in the order its windows lie in the state: ky, kx, value.
    last = F.pad(block.lastconv.weight.detach().permute(0, 2, 3, 1), (0, 1)).reshape(-1, WINDOW)
    bias = block.lastconv.bias
    assert bias is not None
    return FoldedBlock(
        scale=block.scale,
        entry=(_direct(first, 2), _direct(second, 2)),
        entry_first=_direct(_without_state(first), 2),
        body=(
            _products(part(block.convblock, 0)),
            _products(part(block.convblock, 1)),
            _products(part(block.convblock, 2)),
        ),
        squeeze=_products(parts(block.conv_sq)),
        spatial=(_direct(spatial, 2), _direct(spatial_second, 1)),
        spatial_first=_direct(_without_state(spatial), 2),
        taps=padded(last[:split], 0).contiguous(),
        spatial_taps=padded(last[split:], 0).contiguous().numpy(),
        bias=F.pad(bias.detach(), (0, 1)).numpy(),
    )


def _without_state(layer: LayerParameters) -> LayerParameters:
    """Fold weights for the first block: both warped frames are the frames themselves, mask and flow are zero."""
    return layer._replace(weight=layer.weight[:, :6] + layer.weight[:, 6:12])


def _direct(layer: LayerParameters, stride: int) -> Convolution:
    weight, bias, slopes = (padded(values, 0) for values in layer)
    if weight.shape[1] not in (6, 17):
        weight = padded(weight, 1)  # its input was padded as well
    return Convolution(
        weight.contiguous(memory_format=torch.channels_last), bias.clone(), slopes.clone().numpy(), stride
    )


def _products(layer: LayerParameters) -> Products:
    weight = padded(padded(layer.weight, 0), 1)
    return Products(winograd.weights(weight), torch.stack((padded(layer.bias, 0), padded(layer.slopes, 0))).numpy())
