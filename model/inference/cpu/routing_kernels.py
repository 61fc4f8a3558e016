"""The routing convolution as a compiled loop: Winograd's F(4x4, 3x3), of whose outputs only sums are kept.

The mean over a frame of what follows needs no more of them (`model.dmvfn.conv_mean`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import ZERO, get_thread_id, inlined, prange
from model.inference.cpu.convolution_kernels import panel_vectors
from model.inference.cpu.lanes import VECTOR
from model.inference.cpu.matrix_tiles import matrix_product
from model.inference.cpu.winograd_tiles import into_tile, sum_tile

_multiply = matrix_product(activate=False)
#: Of a row of outputs these are kept: the sum, the first and the last.
KEPT = 3


@inlined
def _transform(ty: Any, first: Any, count: Any, maps: Any, tiles: Any, product: Any) -> None:
    """Transform `count` tiles of row ty from tile `first` on; numbers of the next product lie `product` later."""
    row, channels = maps.shape[1] * maps.shape[2], maps.shape[2]
    source = maps.reshape(-1)
    for tx in range(count):
        for k in range(0, channels, VECTOR):
            at = max(min(k, channels - VECTOR), 0)
            pixel = 4 * ty * row + 4 * (first + tx) * channels + at
            into_tile(source, pixel, row, channels, tiles, tx * channels + at, product)


@inlined
def _sum_row(
    ty: Any, maps: Any, weights: Any, activation: Any, most: Any, tiles: Any, products: Any, sums: Any
) -> None:
    across, inputs, outputs = (maps.shape[1] - 2) // 4, maps.shape[2], sums.shape[1] // KEPT
    vectors = panel_vectors(outputs)
    lanes = vectors * VECTOR
    sums[4 * ty : 4 * ty + 4] = ZERO
    for first in range(0, across, most):
        count = min(most, across - first)
        left, right = count * inputs + VECTOR, count * outputs
        _transform(ty, first, count, maps, tiles, left)
        for i in range(36):
            for panel in range(outputs // lanes):
                _multiply(
                    count, vectors, tiles, i * left, inputs, 1, 0, inputs,
                    weights, (i * (outputs // lanes) + panel) * inputs * lanes,
                    products, i * right + panel * lanes, outputs, activation, 0, 0,
                )  # fmt: skip
        for tx in range(count):
            for k in range(0, outputs, VECTOR):
                sum_tile(
                    products, tx * outputs + k, right, activation, k, activation.shape[0] // 2,
                    sums.reshape(-1), 4 * ty * KEPT * outputs + k, KEPT * outputs, outputs, first + tx == 0,
                )  # fmt: skip


def row_sums(maps: Any, weights: Any, activation: Any, most: Any, tiles: Any, products: Any, sums: Any) -> None:
    """Convolve maps 3x3 with PReLU and keep of each row, in sums hx3O, its sum, its first and its last pixel.

    maps: of whole tiles, sides that four divides. weights: packed, 36 matrices of float32. O: whole vectors.
    tiles, products: for each thread 36 x (`most` tiles at a time x channels + 16) numbers, and 36 x `most` x O.
    """
    for ty in prange(sums.shape[0] // 4):
        thread = get_thread_id()
        _sum_row(np.int64(ty), maps, weights, activation, most, tiles[thread], products[thread], sums)
