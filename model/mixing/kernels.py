"""The two passes over memory around a head's convolutions, as compiled loops: what it sees, and the sum it weighs.

One sample, channels last. The same arithmetic as `MixingHead.features` and the end of `MixingHead.forward`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.inference.cpu.compiler import F3, ONE, ZERO, inlined, kernel, prange
from model.mixing.head import DIFFERENCE_GAIN, FLOW_RANGE, MOST_DETAIL

_HALF, _LEVELS = np.float32(0.5), np.float32(1 / 255)
_RED, _GREEN, _BLUE = np.float32(0.299 / 255), np.float32(0.587 / 255), np.float32(0.114 / 255)
_GAIN, _RANGE, _DETAIL = np.float32(DIFFERENCE_GAIN), np.float32(1 / FLOW_RANGE), np.float32(MOST_DETAIL)
_PIXELS = "uint8[:,:,:,::1]"


@inlined
def _see_row(y: Any, frames: Any, flow: Any, features: Any) -> None:
    kinds, height, width = frames.shape[0], frames.shape[1], frames.shape[2]
    row = min(y, height - 1)
    for x in range(features.shape[1]):
        column = min(x, width - 1)
        out = features[y, x]
        first = frames[0, row, column]
        red, green, blue = np.float32(first[0]), np.float32(first[1]), np.float32(first[2])
        out[0] = red * _LEVELS - _HALF
        out[1] = green * _LEVELS - _HALF
        out[2] = blue * _LEVELS - _HALF
        luma = red * _RED + green * _GREEN + blue * _BLUE
        for k in range(1, kinds):
            other = frames[k, row, column]
            level = np.float32(other[0]) * _RED + np.float32(other[1]) * _GREEN + np.float32(other[2]) * _BLUE
            out[2 + k] = (level - luma) * _GAIN
        out[2 + kinds] = flow[row, column, 0] * _RANGE
        out[3 + kinds] = flow[row, column, 1] * _RANGE


@kernel(f"{_PIXELS}, {F3}, {F3}")
def see(frames: Any, flow: Any, features: Any) -> None:
    """Write features HxWx(K+4) from frames Kxhxwx3 and flow hxwx2 in pixels; H >= h, W >= w, the border repeated."""
    for y in prange(features.shape[0]):
        _see_row(np.int64(y), frames, flow, features)


@inlined
def _share_row(y: Any, logits: Any, shares: Any) -> None:
    kinds = logits.shape[2] - 1
    for x in range(logits.shape[1]):
        row, out = logits[y, x], shares[y, x]
        most = row[0]
        for k in range(1, kinds):
            most = max(most, row[k])
        total = ZERO
        for k in range(kinds):
            out[k] = np.float32(math.exp(row[k] - most))
            total += out[k]
        total = ONE / total
        for k in range(kinds):
            out[k] *= total
        out[kinds] = min(max(row[kinds], -_DETAIL), _DETAIL)


@kernel(f"{F3}, {F3}")
def share(logits: Any, shares: Any) -> None:
    """Turn logits hxwx(K+1) into shares: softmax over the K candidates; the last, the detail, within its limits."""
    for y in prange(shares.shape[0]):
        _share_row(np.int64(y), logits, shares)


@inlined
def _sum_row(y: Any, frames: Any, soft: Any, shares: Any, row_shares: Any, room: Any, out: Any) -> None:
    low_height, low_width, places = shares.shape[0], shares.shape[1], shares.shape[2]
    kinds, width = frames.shape[0], frames.shape[2]
    # Bilinear, half-pixel centres, by two: a quarter and three quarters of the neighbours.
    upper = max((y + 1) // 2 - 1, 0)
    lower = min((y + 1) // 2, low_height - 1)
    part = np.float32(0.25) if y % 2 else np.float32(0.75)
    part = ZERO if y == 0 else part
    above, below = shares[upper].reshape(-1), shares[lower].reshape(-1)
    for k in range(low_width * places):
        row_shares[k] = above[k] + part * (below[k] - above[k])
    for x in range(width):
        left = max((x + 1) // 2 - 1, 0) * places
        right = min((x + 1) // 2, low_width - 1) * places
        near = np.float32(0.25) if x % 2 else np.float32(0.75)
        near = ZERO if x == 0 else near
        for k in range(places):
            room[k] = row_shares[left + k] + near * (row_shares[right + k] - row_shares[left + k])
        first, blunt = frames[0, y, x], frames[soft, y, x]
        detail = room[kinds]
        red = detail * (np.float32(first[0]) - np.float32(blunt[0]))
        green = detail * (np.float32(first[1]) - np.float32(blunt[1]))
        blue = detail * (np.float32(first[2]) - np.float32(blunt[2]))
        for k in range(kinds):
            pixel, weight = frames[k, y, x], room[k]
            red += weight * np.float32(pixel[0])
            green += weight * np.float32(pixel[1])
            blue += weight * np.float32(pixel[2])
        out[y, x, 0] = min(max(red * _LEVELS, ZERO), ONE)
        out[y, x, 1] = min(max(green * _LEVELS, ZERO), ONE)
        out[y, x, 2] = min(max(blue * _LEVELS, ZERO), ONE)


@kernel(f"{_PIXELS}, int64, {F3}, {F3}")
def mix(frames: Any, soft: Any, shares: Any, out: Any) -> None:
    """Mix frames KxHxWx3 by shares hxwx(K+1), half as large -> out HxWx3 in 0..1; `soft`: that candidate's place."""
    bands = min(out.shape[0], 16)
    for band in prange(bands):
        row_shares = np.empty(shares.shape[1] * shares.shape[2], np.float32)
        room = np.empty(shares.shape[2], np.float32)
        for y in range(band * out.shape[0] // bands, (band + 1) * out.shape[0] // bands):
            _sum_row(np.int64(y), frames, np.int64(soft), shares, row_shares, room, out)
