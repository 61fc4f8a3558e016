"""The CPU path's convolutions as compiled loops: each keeps what it works on in a core's cache, with its PReLU.

Maps are channels last, one sample, float32 or bfloat16 (uint16), with zeros around: a row and a column before, and
behind as many as whole tiles of 4x4 pixels need and one more (`packing.bordered`). At least 8 channels where they are
written; an even number of them in bfloat16. Compiled for either by `model.inference.cpu.kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import ZERO, get_thread_id, inlined, prange
from model.inference.cpu.lanes import VECTOR, narrowed, widened
from model.inference.cpu.matrix_tiles import PANELS, matrix_product, matrix_product_beside
from model.inference.cpu.packing import NARROW
from model.inference.cpu.winograd_tiles import from_tile, into_tile

_multiply, _convolve = matrix_product(activate=False), matrix_product(activate=True)
_convolve_narrow, _convolve_beside = matrix_product(activate=True, narrow=True), matrix_product_beside()


@inlined
def panel_vectors(outputs: Any) -> Any:
    """Return how many vectors of 16 a panel of `outputs` channels takes: the most that divides all of them."""
    vectors = (outputs + VECTOR - 1) // VECTOR
    for number in PANELS:
        if vectors % number == 0:
            return number
    return 1


@inlined
def panel_size(weights: Any, outputs: Any) -> Any:
    """Return the numbers of a panel of a convolution's weights."""
    return weights.shape[0] // ((outputs + VECTOR - 1) // VECTOR // panel_vectors(outputs))


@inlined
def clear(maps: Any, y: Any, first: Any, after: Any) -> None:
    """Set row y of maps to zero from pixel `first` to before `after`."""
    for x in range(first, after):
        for k in range(maps.shape[2]):
            maps[y, x, k] = narrowed(ZERO, maps)


@inlined
def clear_sides(maps: Any, y: Any, width: Any) -> None:
    """Set what lies before and behind the `width` pixels of row y to zero."""
    clear(maps, y, 0, 1)
    clear(maps, y, width + 1, maps.shape[1])


@inlined
def clear_rows(maps: Any, height: Any) -> None:
    """Set the rows above and below `height` rows of pixels to zero."""
    clear(maps, 0, 0, maps.shape[1])
    for y in range(height + 1, maps.shape[0]):
        clear(maps, y, 0, maps.shape[1])


@inlined
def clear_around(maps: Any, height: Any, width: Any) -> None:
    """Set what lies around height x width pixels to zero."""
    clear_rows(maps, height)
    for y in range(1, height + 1):
        clear_sides(maps, y, width)


@inlined
def _direct_row(
    y: Any, width: Any, maps: Any, weights: Any, activation: Any, stride: Any, panels: Any, out: Any
) -> None:
    """Convolve a row by the first so many of the weights' panels."""
    channels, outputs = maps.shape[2], activation.shape[0] // 2
    row, vectors = maps.shape[1] * channels, panel_vectors(outputs)
    lanes = vectors * VECTOR
    # The last panel first: what it writes beyond a pixel is the first panel's of the next one.
    for panel in range(panels - 1, -1, -1):
        _convolve(
            width, vectors, maps.reshape(-1), y * stride * row, stride * channels, 3, row, 3 * channels,
            weights, panel * panel_size(weights, outputs),
            out.reshape(-1), ((y + 1) * out.shape[1] + 1) * out.shape[2] + panel * lanes, out.shape[2],
            activation, panel * lanes, activation.shape[0] // 2,
        )  # fmt: skip


def direct(maps: Any, weights: Any, activation: Any, stride: Any, height: Any, width: Any, out: Any) -> None:
    """Convolve maps 3x3, add the biases, apply PReLU: `out` of height x width pixels.

    weights: packed, one matrix for each of 3 rows. activation: biases, then slopes, each up to whole vectors.
    """
    panels = activation.shape[0] // 2 // (VECTOR * panel_vectors(activation.shape[0] // 2))
    clear_rows(out, height)
    for y in prange(height):
        row = np.int64(y)
        _direct_row(row, width, maps, weights, activation, stride, panels, out)
        clear_sides(out, row + 1, width)


@inlined
def narrow_row(y: Any, width: Any, maps: Any, weights: Any, activation: Any, stride: Any, out: Any) -> None:
    """Convolve a row to 8 channels, as `direct_narrow` does."""
    channels = maps.shape[2]
    row = maps.shape[1] * channels
    _convolve_narrow(
        width, 1, maps.reshape(-1), y * stride * row, stride * channels, 3, row, 3 * channels,
        weights, 0, out.reshape(-1), ((y + 1) * out.shape[1] + 1) * NARROW, NARROW,
        activation, 0, activation.shape[0] // 2,
    )  # fmt: skip


def direct_added(
    maps: Any, weights: Any, activation: Any, residual: Any, add: Any, height: Any, width: Any, out: Any
) -> None:
    """Convolve maps as `direct` does, with stride 1; then add `residual`, maps like `out`, if `add`."""
    panels = activation.shape[0] // 2 // (VECTOR * panel_vectors(activation.shape[0] // 2))
    clear_rows(out, height)
    for y in prange(height):
        row = np.int64(y)
        _direct_row(row, width, maps, weights, activation, 1, panels, out)
        clear_sides(out, row + 1, width)
        if add:
            sums, more = out[row + 1].reshape(-1), residual[row + 1].reshape(-1)
            for k in range(sums.shape[0]):
                sums[k] = narrowed(widened(sums[k]) + widened(more[k]), sums)


def direct_narrow(maps: Any, weights: Any, activation: Any, stride: Any, height: Any, width: Any, out: Any) -> None:
    """Convolve maps as `direct` does, to 8 channels.

    weights: packed for a narrow product. Where they are filled up to whole vectors, what lies behind a window is read
    and multiplied by zero: stride 1 then asks for maps whose rows have another pixel behind their border.
    activation: biases, then slopes, both for two pixels.
    """
    clear_rows(out, height)
    for y in prange(height):
        row = np.int64(y)
        narrow_row(row, width, maps, weights, activation, stride, out)
        clear_sides(out, row + 1, width)


@inlined
def beside_row(
    y: Any, width: Any, maps: Any, weights: Any, activation: Any, stride: Any, out: Any, second: Any
) -> None:
    """Convolve a row as `direct` does, and the last 8 of the weights' outputs, which are not of `out`, to `second`."""
    channels, outputs = maps.shape[2], activation.shape[0] // 2
    row, vectors = maps.shape[1] * channels, panel_vectors(outputs)
    panel = outputs // (vectors * VECTOR) - 1
    lanes = vectors * VECTOR
    _convolve_beside(
        width, vectors, maps.reshape(-1), y * stride * row, stride * channels, 3, row, 3 * channels,
        weights, panel * panel_size(weights, outputs),
        out.reshape(-1), ((y + 1) * out.shape[1] + 1) * out.shape[2] + panel * lanes, out.shape[2],
        activation, panel * lanes, activation.shape[0] // 2,
        second.reshape(-1), ((y + 1) * second.shape[1] + 1) * NARROW, NARROW,
    )  # fmt: skip
    _direct_row(y, width, maps, weights, activation, stride, panel, out)


@inlined
def _into_tiles(ty: Any, maps: Any, tiles: Any, place: Any, product: Any) -> None:
    """Transform a row of tiles; its factors of one product begin at `place`, those of the next `product` later."""
    row, channels = maps.shape[1] * maps.shape[2], maps.shape[2]
    source = maps.reshape(-1)
    for tx in range((maps.shape[1] - 2) // 4):
        for k in range(0, channels, VECTOR):
            first = max(min(k, channels - VECTOR), 0)
            into_tile(
                source, 4 * ty * row + 4 * tx * channels + first, row, channels,
                tiles, place + tx * channels + first, product,
            )  # fmt: skip


@inlined
def _from_tiles(
    ty: Any, sums: Any, place: Any, product: Any, activation: Any, residual: Any, add: Any, height: Any, width: Any,
    maps: Any,
) -> None:  # fmt: skip
    """Transform a row of tiles back, as `_into_tiles` lays them out, into pixels of `maps`."""
    row, channels = maps.shape[1] * maps.shape[2], maps.shape[2]
    out, more = maps.reshape(-1), residual.reshape(-1)
    for tx in range((maps.shape[1] - 2) // 4):
        for k in range(0, channels, VECTOR):
            first = max(min(k, channels - VECTOR), 0)
            at = (4 * ty + 1) * row + (4 * tx + 1) * channels + first
            from_tile(
                sums, place + tx * channels + first, product, activation, first, activation.shape[0] // 2,
                more, at, add, out, at, row, channels,
            )  # fmt: skip
    for y in range(4 * ty + 1, 4 * ty + 5):
        clear(maps, y, 0, 1)
        clear(maps, y, width + 1 if y <= height else 1, maps.shape[1])


def tiled(
    maps: Any, weights: Any, activation: Any, residual: Any, add: Any, height: Any, width: Any, rows: Any,
    tiles: Any, sums: Any, out: Any,
) -> None:  # fmt: skip
    """Convolve maps 3x3 by Winograd's F(4x4, 3x3), `rows` rows of tiles at a time; PReLU; then `residual` if `add`.

    weights: packed, 36 matrices. tiles, sums: for each thread 36 x (tiles at a time x channels + 16) numbers.
    """
    down, across = (maps.shape[0] - 2) // 4, (maps.shape[1] - 2) // 4
    inputs, outputs = maps.shape[2], out.shape[2]
    vectors = panel_vectors(outputs)
    lanes = vectors * VECTOR
    panels = (outputs + lanes - 1) // lanes
    clear(out, 0, 0, out.shape[1])
    clear(out, out.shape[0] - 1, 0, out.shape[1])
    for group in prange((down + rows - 1) // rows):
        thread = get_thread_id()
        first, after = group * rows, min(group * rows + rows, down)
        count = (after - first) * across
        left, right = count * inputs + VECTOR, count * outputs + VECTOR
        for ty in range(first, after):
            _into_tiles(ty, maps, tiles[thread], (ty - first) * across * inputs, left)
        for i in range(36):
            for panel in range(panels - 1, -1, -1):
                _multiply(
                    count, vectors, tiles[thread], i * left, inputs, 1, 0, inputs,
                    weights, (i * panels + panel) * (weights.shape[0] // (36 * panels)),
                    sums[thread], i * right + panel * lanes, outputs, activation, 0, 0,
                )  # fmt: skip
        for ty in range(first, after):
            place = (ty - first) * across * outputs
            _from_tiles(ty, sums[thread], place, right, activation, residual, add, height, width, out)
