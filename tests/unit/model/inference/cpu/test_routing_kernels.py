"""The routing convolution's sums equal those of torch's outputs, for any number of tiles at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("numba")

from model.inference.cpu import compiler, kernels, weights, winograd
from model.inference.cpu.precision import Arithmetic
from model.inference.layers import LayerParameters
from tests.unit.model.inference.cpu.kinds import KINDS, maps_of, rounded


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize(("height", "width", "most"), [(4, 4, 8), (8, 28, 3), (4, 28, 7)])
@pytest.mark.parametrize("outputs", [32, 20])
def test_sums_of_rows_keep_their_ends(arithmetic: Arithmetic, height: int, width: int, most: int, outputs: int) -> None:
    torch.manual_seed(outputs)
    layer = LayerParameters(torch.randn(outputs, 6, 3, 3) / 7, torch.randn(outputs), torch.rand(outputs))
    pixels, threads = rounded(torch.randn(height, width, 6), arithmetic.half), compiler.use_threads(2)
    folded = weights.tiled(layer, Arithmetic.FLOAT32, 6)
    tiles = np.empty((threads, winograd.PRODUCTS * (most * 6 + 16)), np.float32)
    products = np.empty((threads, winograd.PRODUCTS * most * 32), np.float32)
    sums = np.full((height, 3 * 32), 77, np.float32)
    kernels.of(arithmetic).row_sums(
        maps_of(pixels, arithmetic.half), folded.weights, folded.activation, most, tiles, products, sums
    )
    image = F.conv2d(pixels.permute(2, 0, 1)[None].double(), layer.weight.double(), layer.bias.double(), 1, 1)
    maps = F.prelu(image, layer.slopes.double())[0]
    whole = torch.stack((maps.sum(2), maps[..., 0], maps[..., -1])).permute(2, 0, 1)
    answer = torch.from_numpy(sums).view(height, 3, 32)[..., :outputs]
    torch.testing.assert_close(answer.double(), whole, atol=1e-4, rtol=0)
