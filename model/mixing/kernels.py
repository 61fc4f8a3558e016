"""The pass over memory that ends a mixture, as a compiled loop: the sum that a head weighs.

One sample. The same arithmetic as the end of `MixingHead.forward`. Loops run over whole rows of one candidate, so that
they become vector instructions; a loop over candidates inside one over pixels does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import F3, ONE, QUARTER, ZERO, inlined, kernel, prange

_LEVELS, _MOST = np.float32(1 / 255), np.float32(0.75)
PIXELS = "uint8[:,:,:,::1]"


@inlined
def rows_around(y: Any, height: Any) -> Any:
    """Return the two of `height` rows between which row y lies when they are enlarged by two."""
    return max((y + 1) // 2 - 1, 0), min((y + 1) // 2, height - 1)


@inlined
def enlarge_between(upper: Any, lower: Any, y: Any, low: Any, wide: Any) -> None:
    """Write row y of what is enlarged by two, bilinear with half-pixel centres: 2w numbers, by way of `low`, w.

    `upper` and `lower`: the rows around it, as `rows_around` tells.
    """
    width = low.shape[0]
    part = QUARTER if y % 2 else _MOST
    for x in range(width):
        low[x] = upper[x] + part * (lower[x] - upper[x])
    for x in range(1, width - 1):
        wide[2 * x] = low[x] * _MOST + low[x - 1] * QUARTER
        wide[2 * x + 1] = low[x] * _MOST + low[x + 1] * QUARTER
    last = width - 1
    wide[0], wide[2 * last + 1] = low[0], low[last]
    wide[1] = low[0] * _MOST + low[min(1, last)] * QUARTER
    wide[2 * last] = low[last] * _MOST + low[max(last - 1, 0)] * QUARTER
    if last == 0:
        wide[0], wide[1] = low[0], low[0]


@inlined
def enlarge_row(shares: Any, y: Any, low: Any, wide: Any) -> None:
    """Write row y of shares hxw enlarged by two, as `enlarge_between`."""
    above, below = rows_around(y, shares.shape[0])
    enlarge_between(shares[above], shares[below], y, low, wide)


@inlined
def _add_row(row: Any, weight: Any, sums: Any) -> None:
    """Add a row of 3W interleaved colours, weighed by W weights, to sums 3xW."""
    red, green, blue = sums[0], sums[1], sums[2]
    for x in range(red.shape[0]):
        red[x] += weight[x] * np.float32(row[3 * x])
        green[x] += weight[x] * np.float32(row[3 * x + 1])
        blue[x] += weight[x] * np.float32(row[3 * x + 2])


@inlined
def mix_row(frames: Any, y: Any, soft: Any, shares: Any, low: Any, weight: Any, sums: Any) -> None:
    """Write row y of a mixture, 3xW levels, as `mix`; by way of `low` and `weight`, a row of the shares."""
    kinds = frames.shape[0]
    sums[:] = ZERO
    for k in range(kinds):
        enlarge_row(shares[k], y, low, weight)
        _add_row(frames[k, y].reshape(-1), weight, sums)
    enlarge_row(shares[kinds], y, low, weight)
    _add_row(frames[0, y].reshape(-1), weight, sums)
    for x in range(sums.shape[1]):
        weight[x] = -weight[x]
    _add_row(frames[soft, y].reshape(-1), weight, sums)


@inlined
def level_part(level: Any) -> Any:
    """Return a level as a part of the highest one, held within 0..1."""
    return min(max(level * _LEVELS, ZERO), ONE)


@kernel(f"{PIXELS}, int64, {F3}, {F3}")
def mix(frames: Any, soft: Any, shares: Any, out: Any) -> None:
    """Mix frames KxHxWx3 by shares (K+1)xhxw, half as large -> out HxWx3 in 0..1.

    The last of the shares is the detail: how much of the first frame without the `soft`-th is added.
    """
    height, width = frames.shape[1], frames.shape[2]
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(shares.shape[2], np.float32)
        weight = np.empty(2 * shares.shape[2], np.float32)
        sums = np.empty((3, width), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            mix_row(frames, y, soft, shares, low, weight, sums)
            row = out[y].reshape(-1)
            for x in range(width):
                row[3 * x] = level_part(sums[0, x])
                row[3 * x + 1] = level_part(sums[1, x])
                row[3 * x + 2] = level_part(sums[2, x])
