"""Everything of the CPU path but convolutions, as compiled loops: frames, sums, activations, joining, warping.

Float32, channels last, one sample. Loops run over contiguous one-dimensional views whose index starts at zero,
because that is the form the compiler vectorises.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.inference.cpu.compiler import F1, F2, F3, F4, FRAME, ONE, QUARTER, ZERO, inlined, kernel, prange
from model.inference.cpu.weights import VALUES, WINDOW


@inlined
def _load_row(y: Any, previous: Any, current: Any, gather: Any, maps: Any) -> None:
    row = min(y, previous.shape[1] - 1)
    for x in range(maps.shape[1]):
        column = min(x, previous.shape[2] - 1)
        for c in range(3):
            gather[0, y, x, c] = previous[c, row, column]
            gather[1, y, x, c] = current[c, row, column]
            maps[y, x, c] = previous[c, row, column]
            maps[y, x, 3 + c] = current[c, row, column]
        gather[0, y, x, 3] = ZERO
        gather[1, y, x, 3] = ZERO


@kernel(f"{FRAME}, {FRAME}, {F4}, {F3}")
def load(previous: Any, current: Any, gather: Any, maps: Any) -> None:
    """Load two frames 3xhxw, any strides, into gather 2xHxWx4 and maps HxWx6, the last row and column repeated."""
    for y in prange(maps.shape[0]):
        _load_row(np.int64(y), previous, current, gather, maps)


@inlined
def _reduce_row(y: Any, full: Any, scale: Any, small: Any) -> None:
    first, channels = scale // 2 - 1, full.shape[2]
    above, below = full[y * scale + first], full[y * scale + first + 1]
    for x in range(small.shape[1]):
        left = x * scale + first
        a, b, c, d = above[left], above[left + 1], below[left], below[left + 1]
        out = small[y, x]
        for k in range(channels):
            out[k] = QUARTER * ((a[k] + b[k]) + (c[k] + d[k]))


@kernel(f"{F3}, int64, {F3}")
def reduce(full: Any, scale: Any, small: Any) -> None:
    """Reduce full HxWxC to H/s x W/s x C: the mean of the central 2x2 of each s x s (bilinear, half-pixel centres)."""
    for y in prange(small.shape[0]):
        _reduce_row(np.int64(y), full, scale, small)


@inlined
def _prelu_row(y: Any, rows: Any, slopes: Any) -> None:
    row = rows[y]
    for k in range(slopes.shape[0]):
        value = row[k]
        row[k] = value if value > ZERO else slopes[k] * value


@kernel(f"{F2}, {F1}")
def prelu(rows: Any, slopes: Any) -> None:
    """Apply PReLU in place to rows RxL, one slope for each of the L places."""
    for y in prange(rows.shape[0]):
        _prelu_row(np.int64(y), rows, slopes)


@inlined
def _join_band(band: Any, taps: Any, factor: Any, spatial: Any, weights: Any, room: Any, state: Any) -> None:
    height, width = spatial.shape[0], spatial.shape[1]
    low_height, low_width = taps.shape[0], taps.shape[1]
    bands = room.shape[0]
    first, after = band * height // bands, (band + 1) * height // bands
    blend_row, window = room[band, 0, : low_width * WINDOW], room[band, 1, :WINDOW]
    # Flat, so that the compiler sees one array behind all eight rows and need not check each for overlap.
    w = weights.reshape(-1)
    for y in range(max(0, first - 1), min(height, after + 1)):
        at = max((y + 0.5) / factor - 0.5, 0.0)
        upper = min(int(at), low_height - 1)
        lower = min(upper + 1, low_height - 1)
        share = np.float32(at - upper)
        above, below = taps[upper].reshape(-1), taps[lower].reshape(-1)
        for k in range(low_width * WINDOW):
            blend_row[k] = above[k] + share * (below[k] - above[k])
        for x in range(width):
            at_x = max((x + 0.5) / factor - 0.5, 0.0)
            left = min(int(at_x), low_width - 1)
            right = min(left + 1, low_width - 1)
            share_x = np.float32(at_x - left)
            a, b = blend_row[left * WINDOW : (left + 1) * WINDOW], blend_row[right * WINDOW : (right + 1) * WINDOW]
            pixel = spatial[y, x]
            s0, s1, s2, s3 = pixel[0], pixel[1], pixel[2], pixel[3]
            s4, s5, s6, s7 = pixel[4], pixel[5], pixel[6], pixel[7]
            for k in range(WINDOW):
                near = a[k] + share_x * (b[k] - a[k])
                early = s0 * w[k] + s1 * w[WINDOW + k] + s2 * w[2 * WINDOW + k] + s3 * w[3 * WINDOW + k]
                late = s4 * w[4 * WINDOW + k] + s5 * w[5 * WINDOW + k] + s6 * w[6 * WINDOW + k] + s7 * w[7 * WINDOW + k]
                window[k] = near + early + late
            # The window's four pixels of a row lie side by side in the state too.
            for dy in range(4):
                row = 2 * y - 1 + dy
                if 2 * first <= row < 2 * after:
                    out = state[row].reshape(-1)[2 * x * VALUES : 2 * x * VALUES + 4 * VALUES]
                    values = window[dy * 4 * VALUES : (dy + 1) * 4 * VALUES]
                    for k in range(4 * VALUES):
                        out[k] += values[k]


@kernel(f"{F3}, int64, {F3}, {F2}, {F3}, {F3}")
def join(taps: Any, factor: Any, spatial: Any, weights: Any, room: Any, state: Any) -> None:
    """Add the last transposed convolution's output, without bias, to state Hx(W+2)x6.

    taps: (H/2f)x(W/2f)x96, the motion half already multiplied by the kernel, one 4x4x6 window a pixel; it is
    upsampled here by f (bilinear, half-pixel centres). spatial: (H/2)x(W/2)x8 with its weights 8x96. room: bands
    x 2 x (W/2f)*96 or more; the first side is the number of bands shared by threads.
    """
    for band in prange(room.shape[0]):
        _join_band(np.int64(band), taps, factor, spatial, weights, room, state)


@inlined
def _sample(image: Any, x: Any, y: Any, out: Any) -> None:
    """Sample image HxWx4 at (x, y) in pixels, the border repeated, into out[0..2]."""
    height, width = image.shape[0], image.shape[1]
    # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
    x = x if x > ZERO else ZERO
    y = y if y > ZERO else ZERO
    x, y = min(x, np.float32(width - 1)), min(y, np.float32(height - 1))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - np.float32(left), y - np.float32(top)
    a, b, c, d = image[top, left], image[top, right], image[bottom, left], image[bottom, right]
    wa, wb = (ONE - fx) * (ONE - fy), fx * (ONE - fy)
    wc, wd = (ONE - fx) * fy, fx * fy
    for k in range(3):
        out[k] = wa * a[k] + wb * b[k] + wc * c[k] + wd * d[k]


@inlined
def _advance_row(y: Any, state: Any, bias: Any, gather: Any, maps: Any, first: Any) -> None:
    for x in range(maps.shape[1]):
        s, out = state[y, x + 1], maps[y, x]
        fx, fy, gx, gy = s[0] + bias[0], s[1] + bias[1], s[2] + bias[2], s[3] + bias[3]
        if first:
            for k in range(3):
                out[k] = gather[0, y, x, k]
                out[3 + k] = gather[1, y, x, k]
        _sample(gather[0], np.float32(x) + fx, np.float32(y) + fy, out[6:9])
        _sample(gather[1], np.float32(x) + gx, np.float32(y) + gy, out[9:12])
        out[12] = s[4] + bias[4]
        out[13], out[14], out[15], out[16] = fx, fy, gx, gy


@kernel(f"{F3}, {F1}, {F4}, {F3}, boolean")
def advance(state: Any, bias: Any, gather: Any, maps: Any, first: Any) -> None:
    """Write the next block's input, maps HxWx17, from state Hx(W+2)x6 (flow, mask; bias 6 still to be added).

    Channels: previous, current, both warped by the flow, mask, flow. The frames are written only where `first`.
    """
    for y in prange(maps.shape[0]):
        _advance_row(np.int64(y), state, bias, gather, maps, first)


@inlined
def _blend_row(y: Any, state: Any, bias: Any, gather: Any, frame: Any, flow: Any, mask: Any) -> None:
    previous, current = np.empty(3, np.float32), np.empty(3, np.float32)
    for x in range(frame.shape[2]):
        s = state[y, x + 1]
        for k in range(4):
            flow[k, y, x] = s[k] + bias[k]
        logit = s[4] + bias[4]
        mask[0, y, x] = logit
        weight = ONE / (ONE + np.float32(math.exp(-logit)))
        _sample(gather[0], np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x], previous)
        _sample(gather[1], np.float32(x) + flow[2, y, x], np.float32(y) + flow[3, y, x], current)
        for k in range(3):
            value = previous[k] * weight + current[k] * (ONE - weight)
            frame[k, y, x] = min(max(value, ZERO), ONE)


@kernel(f"{F3}, {F1}, {F4}, {F3}, {F3}, {F3}")
def blend(state: Any, bias: Any, gather: Any, frame: Any, flow: Any, mask: Any) -> None:
    """Blend state Hx(W+2)x6 and gather 2xHxWx4 into frame 3xhxw, flow 4xhxw, mask 1xhxw; h, w at most H, W."""
    for y in prange(frame.shape[1]):
        _blend_row(np.int64(y), state, bias, gather, frame, flow, mask)


@inlined
def _relu_sums_row(y: Any, maps: Any, sums: Any) -> None:
    width, channels = maps.shape[1], maps.shape[2]
    total = sums[y, :channels]
    total[:] = ZERO
    for x in range(width):
        values = maps[y, x]
        for k in range(channels):
            total[k] += max(values[k], ZERO)
    for k in range(channels):
        sums[y, channels + k] = max(maps[y, 0, k], ZERO)
        sums[y, 2 * channels + k] = max(maps[y, width - 1, k], ZERO)


@kernel(f"{F3}, {F2}")
def relu_sums(maps: Any, sums: Any) -> None:
    """Sum maps RxWxC into sums Rx3C: of each row, the sum of relu over the columns, and its first and last column."""
    for y in prange(maps.shape[0]):
        _relu_sums_row(np.int64(y), maps, sums)
