"""Winograd's F(4x4, 3x3): a 3x3 convolution as 36 small matrix products, a quarter of the multiplications.

Here is the weights' transform; those of the maps are parts of compiled loops (`model.inference.cpu.winograd_tiles`).
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Products that a tile of 4x4 outputs takes.
PRODUCTS = 36

_WEIGHTS = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]


def weights(kernel: Tensor) -> Tensor:
    """Transform a convolution's OxIx3x3 into 36xIxO, computed in float64 and rounded once."""
    matrix = torch.tensor(_WEIGHTS, dtype=torch.float64, device=kernel.device)
    products = torch.einsum("iy,ocyx,jx->ijco", matrix, kernel.double(), matrix)
    return products.flatten(0, 1).to(kernel.dtype).contiguous()
