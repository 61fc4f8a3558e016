"""The arithmetics in which the CPU path's loops are compiled, for tests of either."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.inference.cpu import packing, precision
from model.inference.cpu.precision import Arithmetic
from model.inference.layers import LayerParameters

#: Arithmetics of which maps are bfloat16.
HALVES = [
    pytest.param(
        Arithmetic.AVX512, id="avx512", marks=pytest.mark.skipif(not precision.has_bfloat16(), reason="no avx512_bf16")
    ),
    pytest.param(Arithmetic.AMX, id="amx", marks=pytest.mark.skipif(not precision.has_amx(), reason="no amx_bf16")),
]
#: All that this process may use.
KINDS = [pytest.param(Arithmetic.FLOAT32, id="float32"), *HALVES]


def rounded(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    """Return the nearest values that maps or weights of this kind can hold."""
    return tensor.bfloat16().float() if half else tensor


def maps_of(pixels: torch.Tensor, half: bool) -> np.ndarray:
    """Pixels HxWxC as maps with their border."""
    height, width, _ = pixels.shape
    sides = packing.bordered(height, width)
    maps = torch.zeros(*sides, pixels.shape[2])
    maps[1 : height + 1, 1 : width + 1] = pixels
    # Loops may read a vector further.
    return packing.numbers(F.pad(maps.flatten(), (0, 16), value=77.0), half)[: maps.numel()].reshape(maps.shape)


def scribbled(height: int, width: int, channels: int, half: bool) -> np.ndarray:
    """Room for maps, full of what somebody else left there."""
    return packing.numbers(torch.full((*packing.bordered(height, width), channels), 77.0), half)


def pixels_of(maps: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The pixels HxWxC of maps as float32; fails unless there are zeros around them."""
    whole = torch.from_numpy(maps)
    values = whole.view(torch.bfloat16).float() if whole.dtype == torch.uint16 else whole.clone()
    pixels = values[1 : height + 1, 1 : width + 1].clone()
    values[1 : height + 1, 1 : width + 1] = 0
    assert not values.any(), "the border is not zero"
    return pixels


def random_layer(inputs: int, outputs: int, half: bool = False) -> LayerParameters:
    """A 3x3 convolution with PReLU whose answers are about as large as what it is given."""
    torch.manual_seed(inputs * outputs)
    weight = torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5
    return LayerParameters(rounded(weight, half), torch.randn(outputs), torch.rand(outputs))


def convolved(layer: LayerParameters, pixels: torch.Tensor, stride: int) -> torch.Tensor:
    """Pixels HxWxC convolved by `layer`, computed in float64."""
    image = pixels.permute(2, 0, 1)[None].double()
    sums = F.conv2d(image, layer.weight.double(), layer.bias.double(), stride, 1)
    return F.prelu(sums, layer.slopes.double())[0].permute(1, 2, 0).float()
