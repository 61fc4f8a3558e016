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
from model.inference.cpu import packing, winograd
from model.inference.cpu.packing import Array
from model.inference.layers import LayerParameters, part, parts, stem

Floats = npt.NDArray[np.float32]

#: A pixel of flow and mask with one unused place.
VALUES = 6
#: Channels of the maps that a first block sees, two frames, and of those that others see: 17 and a zero. Even, for
#: pairs of bfloat16; in float32 a zero more costs nothing that can be measured.
FRAMES, SEEN = 6, 18
#: Numbers of a corner of the last layer: of each of two rows two pixels, up to a whole vector.
CORNER = 32


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 3x3 convolution with bias and PReLU, packed."""

    weights: Array
    activation: Floats
    outputs: int  #: channels of its maps
    stride: int = 1
    pixels: int = 1  #: neighbours whose sums are taken at once


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """One voxel-flow block. `*_first` stand in where the block is the first to run: its input is two frames."""

    scale: int
    entry: tuple[Convolution, Convolution]
    entry_first: Convolution
    body: tuple[Convolution, Convolution, Convolution]
    squeeze: Convolution
    spatial: tuple[Convolution, Convolution]
    spatial_first: Convolution
    motion_corners: Floats
    spatial_corners: Array
    bias: Floats  #: 6


def fold(block: VoxelFlowBlock, half: bool) -> FoldedBlock:
    """Rewrite the weights of `block`, as bfloat16 where `half` but for what the last layer takes of the motion."""
    first, second = stem(block), part(block.conv0, 1)
    spatial, spatial_second = part(block.conv1, 0), part(block.convblock1, 0)
    split = len(block.conv_sq.get_parameter("0.bias"))
    body = [tiled(part(block.convblock, i), half) for i in range(3)]
    last = block.lastconv.weight.detach()
    bias = block.lastconv.bias
    assert bias is not None
    return FoldedBlock(
        scale=block.scale,
        entry=(direct(first, 2, half, SEEN), direct(second, 2, half)),
        entry_first=direct(_without_state(first), 2, half, FRAMES),
        body=(body[0], body[1], body[2]),
        squeeze=tiled(parts(block.conv_sq), half),
        spatial=(direct(spatial, 2, half, SEEN, 2), direct(spatial_second, 1, half, 0, 2)),
        spatial_first=direct(_without_state(spatial), 2, half, FRAMES, 2),
        motion_corners=_motion_corners(last[:split]),
        spatial_corners=_spatial_corners(last[split:], half),
        bias=F.pad(bias.detach(), (0, VALUES - len(bias))).numpy(),
    )


def _without_state(layer: LayerParameters) -> LayerParameters:
    """Fold weights for the first block: both warped frames are the frames themselves, mask and flow are zero."""
    return layer._replace(weight=layer.weight[:, :6] + layer.weight[:, 6:12])


def direct(layer: LayerParameters, stride: int, half: bool, channels: int = 0, pixels: int = 1) -> Convolution:
    """Pack a convolution whose sums are taken as they are defined; `channels` of its input maps, 0: a layer's.

    pixels: neighbours that share a matrix, where the channels of one leave half of a vector empty.
    """
    inputs, outputs = layer.weight.shape[1], packing.channels(len(layer.weight))
    weight = packing.widened(layer.weight, 1, channels or packing.channels(inputs))
    weight, bias, slopes = (packing.widened(values, 0, outputs) for values in (weight, layer.bias, layer.slopes))
    windows = weight.permute(2, 3, 1, 0)
    neighbours = [F.pad(windows, (0, 0, 0, 0, stride * i, stride * (pixels - 1 - i))) for i in range(pixels)]
    # The pixels of a row lie side by side in its maps: they are one stretch of factors.
    matrices = torch.cat(neighbours, 3).reshape(1, 3, -1, pixels * outputs)
    activation = packing.activation(bias.repeat(pixels), slopes.repeat(pixels))
    return Convolution(packing.packed(matrices, half), activation, outputs, stride, pixels)


def tiled(layer: LayerParameters, half: bool) -> Convolution:
    """Pack a convolution of stride 1 as Winograd's 36 matrix products."""
    outputs, inputs = layer.weight.shape[:2]
    matrices = winograd.weights(packing.widened(layer.weight, 1, packing.channels(inputs)))
    activation = packing.activation(layer.bias, layer.slopes)
    return Convolution(packing.packed(matrices[:, None], half), activation, packing.channels(outputs))


def _corners(last: Tensor) -> Tensor:
    """Return weights Ix5x4x4 of the last layer as 2x2xIx32: what the pixel of each side of a corner adds to it."""
    # A pixel's window reaches two outputs to each side: its corner above has the first two, the one below the others.
    windows = last.reshape(len(last), 5, 2, 2, 2, 2).permute(2, 4, 0, 3, 5, 1).flip(0, 1)
    lanes = F.pad(windows, (0, VALUES - 5)).flatten(4)
    return F.pad(lanes, (0, CORNER // 2 - lanes.shape[-1])).flatten(3)


def _spatial_corners(last: Tensor, half: bool) -> Array:
    weights = packing.widened(last, 0, packing.channels(len(last)))
    return packing.packed(_corners(weights).flatten(1, 2)[None], half)


def _motion_corners(last: Tensor) -> Floats:
    """Pack the motion's part: for a pixel, what it adds to corners below it (right, left), then to those above it."""
    weights = packing.widened(last, 0, packing.channels(len(last)))
    matrix = _corners(weights).permute(2, 0, 1, 3).flatten(1)
    return packing.packed(matrix[None, None], half=False).astype(np.float32)
