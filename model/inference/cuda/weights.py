"""A block's weights in the form the GPU path multiplies them: one floating type, channels last, whole tiles.

Equal to the published layers but for the type's rounding; input channels lie as `model.inference.cuda.kernels` writes
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn.block import VoxelFlowBlock
from model.inference.layers import LayerParameters, padded, part, parts, stem

#: Where the channels of a block's input come from, in the published order: frames, both warped, flow and mask.
_PLACED = (0, 1, 2, 3, 4, 5, None, None, 6, 7, 8, 9, 10, 11, None, None, 13, 14, 15, 16, 12, None, None, None)


@dataclass(frozen=True, slots=True)
class AlignedLayer:
    """A convolution and its PReLU."""

    weight: Tensor  #: OxIx3x3, channels last, both multiples of 8
    bias: Tensor  #: O, float32
    slopes: Tensor  #: O, float32
    stride: int


@dataclass(frozen=True, slots=True)
class AlignedBlock:
    """One voxel-flow block."""

    scale: int
    entry: tuple[AlignedLayer, AlignedLayer]
    body: tuple[AlignedLayer, AlignedLayer, AlignedLayer]
    squeeze: AlignedLayer
    spatial: tuple[AlignedLayer, AlignedLayer]
    last: Tensor  #: (squeezed + spatial channels)x8x4x4, channels last
    last_bias: Tensor  #: 8


def align(block: VoxelFlowBlock, kind: torch.dtype) -> AlignedBlock:
    """Rewrite the weights of `block` for convolutions in `kind`."""
    split = len(block.conv_sq.get_parameter("0.bias"))
    last = block.lastconv.weight.detach()
    # Its inputs are two padded maps, one behind the other.
    last = torch.cat((padded(last[:split], 0), padded(last[split:], 0)))
    bias = block.lastconv.bias
    assert bias is not None
    return AlignedBlock(
        scale=block.scale,
        entry=(_layer(_placed(stem(block)), kind, 2), _layer(part(block.conv0, 1), kind, 2)),
        body=(
            _layer(part(block.convblock, 0), kind),
            _layer(part(block.convblock, 1), kind),
            _layer(part(block.convblock, 2), kind),
        ),
        squeeze=_layer(parts(block.conv_sq), kind),
        spatial=(_layer(_placed(part(block.conv1, 0)), kind, 2), _layer(part(block.convblock1, 0), kind)),
        last=padded(last, 1).to(kind).contiguous(memory_format=torch.channels_last),
        last_bias=padded(bias.detach(), 0).to(kind, copy=True),
    )


def _placed(layer: LayerParameters) -> LayerParameters:
    """Put input channels in the order of _PLACED, zeros between."""
    nothing = layer.weight.shape[1]
    weight = F.pad(layer.weight, (0, 0, 0, 0, 0, 1))
    return layer._replace(weight=weight[:, [nothing if i is None else i for i in _PLACED]])


def _layer(layer: LayerParameters, kind: torch.dtype, stride: int = 1) -> AlignedLayer:
    weight = padded(padded(layer.weight, 0), 1).to(kind, copy=True)
    weight = weight.contiguous(memory_format=torch.channels_last)
    return AlignedLayer(weight, padded(layer.bias, 0).clone(), padded(layer.slopes, 0).clone(), stride)
