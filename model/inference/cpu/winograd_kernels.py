"""The maps' side of Winograd's F(4x4, 3x3), as compiled loops; the weights' side is `model.inference.cpu.winograd`.

Float32, channels last, one sample. Loops run over contiguous one-dimensional views whose index starts at zero,
because that is the form the compiler vectorises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import EIGHT, F2, F3, FIVE, FOUR, TWO, ZERO, get_thread_id, inlined, kernel, prange


@inlined
def _input_row(i: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, out: Any) -> None:
    """Apply row i of the F(4x4, 3x3) input transform to six vectors."""
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
def _winograd_input_row(ty: Any, maps: Any, room: Any, tiles: Any) -> None:
    height, width, channels = maps.shape
    across = (width + 3) // 4
    # Columns of equal remainder by 4 lie together: then the six columns of all tiles are six contiguous runs.
    phase, length = (across + 1) * channels, across * channels
    for i in range(6):
        row, strip = 4 * ty - 1 + i, room[i]
        strip[: 4 * phase] = ZERO
        if 0 <= row < height:
            for x in range(width):
                start = ((x + 1) % 4) * phase + ((x + 1) // 4) * channels
                source, out = maps[row, x], strip[start : start + channels]
                for k in range(channels):
                    out[k] = source[k]
    down = room[6, : 4 * phase]
    a, b, c = room[0, : 4 * phase], room[1, : 4 * phase], room[2, : 4 * phase]
    d, e, f = room[3, : 4 * phase], room[4, : 4 * phase], room[5, : 4 * phase]
    for i in range(6):
        _input_row(i, a, b, c, d, e, f, down)
        p, q = down[:length], down[phase : phase + length]
        r, s = down[2 * phase : 2 * phase + length], down[3 * phase : 3 * phase + length]
        t, u = down[channels : channels + length], down[phase + channels : phase + channels + length]
        for j in range(6):
            out = tiles[i * 6 + j].reshape(-1)[ty * length : (ty + 1) * length]
            _input_row(j, p, q, r, s, t, u, out)


@kernel(f"{F3}, {F3}, {F3}")
def winograd_input(maps: Any, room: Any, tiles: Any) -> None:
    """Transform maps hxwxC to tiles 36xTxC, T = ceil(h/4) * ceil(w/4). room: for each thread 7 x 4*(ceil(w/4)+1)*C.

    Zero padding of one pixel, as the 3x3 convolution has. First down the columns for a whole strip of
    six rows, then along the rows.
    """
    for ty in prange((maps.shape[0] + 3) // 4):
        _winograd_input_row(np.int64(ty), maps, room[get_thread_id()], tiles)


@inlined
def _output_rows(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, out: Any) -> None:
    """Apply the F(4x4, 3x3) output transform to six vectors, into the four rows of `out`."""
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
    length = (width + 3) // 4 * channels
    bias, slope = activation[0], activation[1]
    half = room[: 24 * length].reshape(6, 4, length)
    outputs = room[24 * length : 28 * length].reshape(4, length)
    first, after = ty * length, (ty + 1) * length
    for j in range(6):
        _output_rows(
            tiles[j].reshape(-1)[first:after],
            tiles[6 + j].reshape(-1)[first:after],
            tiles[12 + j].reshape(-1)[first:after],
            tiles[18 + j].reshape(-1)[first:after],
            tiles[24 + j].reshape(-1)[first:after],
            tiles[30 + j].reshape(-1)[first:after],
            half[j],
        )
    for i in range(min(4, height - 4 * ty)):
        _output_rows(half[0, i], half[1, i], half[2, i], half[3, i], half[4, i], half[5, i], outputs)
        for x in range(width):
            start = x // 4 * channels
            source, out = outputs[x % 4, start : start + channels], maps[4 * ty + i, x]
            for k in range(channels):
                value = source[k] + bias[k]
                out[k] = value if value > ZERO else slope[k] * value
        if residual.shape[0]:
            sum_, more = maps[4 * ty + i].reshape(-1), residual[4 * ty + i].reshape(-1)
            for k in range(width * channels):
                sum_[k] += more[k]


@kernel(f"{F3}, {F2}, {F3}, {F2}, {F3}")
def winograd_output(tiles: Any, activation: Any, residual: Any, room: Any, maps: Any) -> None:
    """Transform tiles 36xTxC back: maps hxwxC = prelu(convolution + bias) + residual.

    activation: 2xC, biases and slopes. residual: hxwxC, or 0xwxC for none. room: for each thread 28*ceil(w/4)*C.
    """
    for ty in prange((maps.shape[0] + 3) // 4):
        _winograd_output_row(np.int64(ty), tiles, activation, residual, room[get_thread_id()], maps)
