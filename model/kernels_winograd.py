"""The maps' side of Winograd's F(4x4, 3x3), as compiled loops; the weights' side is `model.winograd`.

Float32, channels last, one sample. Loops run over contiguous one-dimensional views whose index starts at zero,
because that is the form the compiler vectorises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.compiled import EIGHT, F2, F3, FIVE, FOUR, TWO, ZERO, get_thread_id, inlined, kernel, prange


@inlined
def _input_row(i: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, out: Any) -> None:
    """Row i of the F(4x4, 3x3) input transform applied to six vectors."""
    if i == 0:
        for k in range(out.shape[0]):
            out[k] = FOUR * a[k] - FIVE * c[k] + e[k]
    elif i == 1:
        for k in range(out.shape[0]):
            out[k] = (d[k] + e[k]) - FOUR * (b[k] + c[k])
    elif i == 2:
        for k in range(out.shape[0]):
            out[k] = (e[k] - d[k]) + FOUR * (b[k] - c[k])
    elif i == 3:
        for k in range(out.shape[0]):
            out[k] = (e[k] - c[k]) + TWO * (d[k] - b[k])
    elif i == 4:
        for k in range(out.shape[0]):
            out[k] = (e[k] - c[k]) - TWO * (d[k] - b[k])
    else:
        for k in range(out.shape[0]):
            out[k] = FOUR * b[k] - FIVE * d[k] + f[k]


@inlined
def _winograd_input_row(ty: Any, maps: Any, strip: Any, tiles: Any) -> None:
    height, width, channels = maps.shape
    across = (width + 3) // 4
    flat = maps.reshape(height, width * channels)
    zeros = strip[6]
    zeros[:] = ZERO
    top = 4 * ty - 1
    a = flat[top] if top >= 0 else zeros[: width * channels]
    b = flat[top + 1]
    c = flat[top + 2] if top + 2 < height else zeros[: width * channels]
    d = flat[top + 3] if top + 3 < height else zeros[: width * channels]
    e = flat[top + 4] if top + 4 < height else zeros[: width * channels]
    f = flat[top + 5] if top + 5 < height else zeros[: width * channels]
    for i in range(6):
        strip[i, :channels] = ZERO
        strip[i, (width + 1) * channels :] = ZERO
        _input_row(i, a, b, c, d, e, f, strip[i, channels : (width + 1) * channels])
    for tx in range(across):
        tile, start = ty * across + tx, 4 * tx * channels
        for i in range(6):
            window = strip[i, start : start + 6 * channels]
            p, q, r = window[:channels], window[channels : 2 * channels], window[2 * channels : 3 * channels]
            s, t, u = (
                window[3 * channels : 4 * channels],
                window[4 * channels : 5 * channels],
                window[5 * channels : 6 * channels],
            )
            for j in range(6):
                _input_row(j, p, q, r, s, t, u, tiles[i * 6 + j, tile])


@kernel(f"{F3}, {F3}, {F3}")
def winograd_input(maps: Any, strips: Any, tiles: Any) -> None:
    """maps hxwxC -> tiles 36xTxC, T = ceil(h/4) * ceil(w/4). strips: room for each thread, 7 x L, L >= (w+5)*C.

    Zero padding of one pixel, as the 3x3 convolution has. First down the columns for a whole strip of
    six rows, then along the rows tile by tile.
    """
    for ty in prange((maps.shape[0] + 3) // 4):
        _winograd_input_row(np.int64(ty), maps, strips[get_thread_id()], tiles)


@inlined
def _output_rows(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, out: Any) -> None:
    """The F(4x4, 3x3) output transform of six vectors into the four rows of `out`."""
    w, x, y, z = out[0], out[1], out[2], out[3]
    for k in range(w.shape[0]):
        w[k] = a[k] + (b[k] + c[k]) + (d[k] + e[k])
    for k in range(w.shape[0]):
        x[k] = (b[k] - c[k]) + TWO * (d[k] - e[k])
    for k in range(w.shape[0]):
        y[k] = (b[k] + c[k]) + FOUR * (d[k] + e[k])
    for k in range(w.shape[0]):
        z[k] = (b[k] - c[k]) + EIGHT * (d[k] - e[k]) + f[k]


@inlined
def _winograd_output_row(ty: Any, tiles: Any, activation: Any, residual: Any, room: Any, maps: Any) -> None:
    height, width, channels = maps.shape
    across = (width + 3) // 4
    bias, slope = activation[0], activation[1]
    half = room[:6].reshape(6, 4, channels)
    done = room[6:].reshape(4, 4, channels)
    for tx in range(across):
        t = ty * across + tx
        for j in range(6):
            _output_rows(
                tiles[j, t], tiles[6 + j, t], tiles[12 + j, t], tiles[18 + j, t], tiles[24 + j, t],
                tiles[30 + j, t], half[j],
            )  # fmt: skip
        for i in range(min(4, height - 4 * ty)):
            _output_rows(half[0, i], half[1, i], half[2, i], half[3, i], half[4, i], half[5, i], done[i])
            for j in range(min(4, width - 4 * tx)):
                source, out = done[i, j], maps[4 * ty + i, 4 * tx + j]
                for k in range(channels):
                    value = source[k] + bias[k]
                    out[k] = value if value > ZERO else slope[k] * value
                if residual.shape[0]:
                    more = residual[4 * ty + i, 4 * tx + j]
                    for k in range(channels):
                        out[k] += more[k]


@kernel(f"{F3}, {F2}, {F3}, {F3}, {F3}")
def winograd_output(tiles: Any, activation: Any, residual: Any, room: Any, maps: Any) -> None:
    """tiles 36xTxC -> maps hxwxC = prelu(convolution + bias) + residual.

    activation: 2xC, biases and slopes. residual: hxwxC, or 0xwxC for none. room: for each thread, 10x4xC.
    """
    for ty in prange((maps.shape[0] + 3) // 4):
        _winograd_output_row(np.int64(ty), tiles, activation, residual, room[get_thread_id()], maps)
