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
from model.inference.cpu.precision import Arithmetic
from model.inference.layers import LayerParameters, part, parts, stem

Floats = npt.NDArray[np.float32]

#: A pixel of flow and mask with one unused place.
VALUES = 6
#: Channels of the maps that a first block sees, two frames.
FRAMES = 6
#: Numbers of a corner of the last layer: of each of two rows two pixels, up to a whole vector.
CORNER = 32


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 3x3 convolution with bias and PReLU, packed."""

    weights: Array
    activation: Floats
    outputs: int  #: channels of its maps
    stride: int = 1


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """One voxel-flow block. `*_first` stand in where the block is the first to run: its input is two frames.

    Where `shared`, both paths begin with the same maps, and the first convolution of `entry` holds that of `spatial`.
    """

    scale: int
    shared: bool
    entry: tuple[Convolution, Convolution]
    entry_first: Convolution
    body: tuple[Convolution, Convolution, Convolution]
    squeeze: Convolution
    spatial: tuple[Convolution, Convolution]
    spatial_first: Convolution
    motion_corners: Floats
    spatial_corners: Array
    bias: Floats  #: 6


def seen(arithmetic: Arithmetic) -> int:
    """Return the channels of the maps that later blocks see."""
    if arithmetic is Arithmetic.AMX:
        return packing.SEEN_BY_AMX
    return packing.SEEN_TWICE if arithmetic.half else packing.SEEN


def fold(block: VoxelFlowBlock, arithmetic: Arithmetic) -> FoldedBlock:
    """Rewrite the weights of `block` for this arithmetic.

    Float32 remain what comes next to the last layer, whose sums cancel, and what that one takes of the motion.
    """
    first, second = stem(block), part(block.conv0, 1)
    spatial, spatial_second = part(block.conv1, 0), part(block.convblock1, 0)
    split = len(block.conv_sq.get_parameter("0.bias"))
    body = [_inner(part(block.convblock, i), arithmetic) for i in range(3)]
    last = block.lastconv.weight.detach()
    bias = block.lastconv.bias
    assert bias is not None

    channels = seen(arithmetic)
    without = _without_state(first), _without_state(spatial)
    if arithmetic.half:
        first, spatial = _with_rests(first, arithmetic), _with_rests(spatial, arithmetic)
    shared = block.scale == 1 and packing.before_beside(packing.channels(len(first.bias))) > 0
    return FoldedBlock(
        scale=block.scale,
        shared=shared,
        entry=(direct(first, 2, arithmetic, channels, spatial if shared else None), direct(second, 2, arithmetic)),
        entry_first=direct(without[0], 2, arithmetic, FRAMES, without[1] if shared else None),
        body=(body[0], body[1], body[2]),
        squeeze=tiled(parts(block.conv_sq), Arithmetic.FLOAT32),
        spatial=(narrow(spatial, 2, arithmetic, channels), narrow(spatial_second, 1, Arithmetic.FLOAT32)),
        spatial_first=narrow(without[1], 2, arithmetic, FRAMES),
        motion_corners=_motion_corners(last[:split]),
        spatial_corners=_spatial_corners(last[split:], arithmetic),
        bias=F.pad(bias.detach(), (0, VALUES - len(bias))).numpy(),
    )


def _without_state(layer: LayerParameters) -> LayerParameters:
    """Fold weights for the first block: both warped frames are the frames themselves, mask and flow are zero."""
    return layer._replace(weight=layer.weight[:, :6] + layer.weight[:, 6:12])


def _with_rests(layer: LayerParameters, arithmetic: Arithmetic) -> LayerParameters:
    """Repeat the weights of what bfloat16 has twice, in the order in which a block sees it (`packing.SEEN_PLACES`)."""
    weight = torch.cat((layer.weight, layer.weight[:, packing.PRECISE :]), 1)
    if arithmetic is Arithmetic.AMX:
        spread = weight.new_zeros(len(weight), packing.SEEN_BY_AMX, *weight.shape[2:])
        spread[:, list(packing.SEEN_PLACES)] = weight
        weight = spread
    return layer._replace(weight=weight)


def direct(
    layer: LayerParameters,
    stride: int,
    arithmetic: Arithmetic,
    channels: int = 0,
    beside: LayerParameters | None = None,
) -> Convolution:
    """Pack a convolution whose sums are taken as they are defined; `channels` of its input maps, 0: a layer's.

    beside: a second one of the same maps, of 8 outputs at most, that is to write maps of its own.
    """
    outputs = packing.channels(len(layer.weight))
    if beside is None:
        layer = _filled(layer, outputs)
    else:
        both = _filled(layer, packing.before_beside(outputs)), _filled(beside, packing.NARROW)
        layer = LayerParameters(*(torch.cat(values) for values in zip(*both, strict=True)))
    activation = packing.activation(layer.bias, layer.slopes)
    return Convolution(packing.packed(_stretches(layer, channels)[None], arithmetic), activation, outputs, stride)


def narrow(layer: LayerParameters, stride: int, arithmetic: Arithmetic, channels: int = 0) -> Convolution:
    """Pack such a convolution to 8 channels at most."""
    layer = _filled(layer, packing.NARROW)
    activation = packing.activation(layer.bias.repeat(2), layer.slopes.repeat(2))
    matrices = packing.packed_narrow(_stretches(layer, channels), arithmetic)
    return Convolution(matrices, activation, packing.NARROW, stride)


def _stretches(layer: LayerParameters, channels: int) -> Tensor:
    """Return the weights as 3xKxO: the pixels of a row lie side by side in its maps, and are one stretch of factors."""
    weight = packing.widened(layer.weight, 1, channels or packing.channels(layer.weight.shape[1]))
    return weight.permute(2, 3, 1, 0).flatten(1, 2)


def _filled(layer: LayerParameters, outputs: int) -> LayerParameters:
    """Add outputs of zero up to so many."""
    return LayerParameters(*(packing.widened(values, 0, outputs) for values in layer))


def tiled(layer: LayerParameters, arithmetic: Arithmetic, channels: int = 0) -> Convolution:
    """Pack a convolution of stride 1 as Winograd's 36 matrix products; `channels` of its input maps, 0: a layer's."""
    outputs, inputs = layer.weight.shape[:2]
    matrices = winograd.weights(packing.widened(layer.weight, 1, channels or packing.channels(inputs)))
    activation = packing.activation(layer.bias, layer.slopes)
    return Convolution(packing.packed(matrices[:, None], arithmetic), activation, packing.channels(outputs))


def _inner(layer: LayerParameters, arithmetic: Arithmetic) -> Convolution:
    """Pack a convolution of stride 1 and many channels: AMX multiplies more quickly than Winograd's maps are made."""
    return direct(layer, 1, arithmetic) if arithmetic is Arithmetic.AMX else tiled(layer, arithmetic)


def _corners(last: Tensor) -> Tensor:
    """Return weights Ix5x4x4 of the last layer as 2x2xIx32: what the pixel of each side of a corner adds to it."""
    # A pixel's window reaches two outputs to each side: its corner above has the first two, the one below the others.
    windows = last.reshape(len(last), 5, 2, 2, 2, 2).permute(2, 4, 0, 3, 5, 1).flip(0, 1)
    lanes = F.pad(windows, (0, VALUES - 5)).flatten(4)
    return F.pad(lanes, (0, CORNER // 2 - lanes.shape[-1])).flatten(3)


def _spatial_corners(last: Tensor, arithmetic: Arithmetic) -> Array:
    weights = packing.widened(last, 0, packing.channels(len(last)))
    return packing.packed(_corners(weights).flatten(1, 2)[None], arithmetic)


def _motion_corners(last: Tensor) -> Floats:
    """Pack the motion's part: for a pixel, what it adds to corners below it (right, left), then to those above it."""
    weights = packing.widened(last, 0, packing.channels(len(last)))
    matrix = _corners(weights).permute(2, 0, 1, 3).flatten(1)
    return packing.packed(matrix[None, None], Arithmetic.FLOAT32).astype(np.float32)
