"""The passes over memory that end a prediction at a part of the size, as compiled loops.

Between the last two OpenCV warps the whole frame: its instructions for that are twice as fast as a compiled loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import F3, ONE, ZERO, inlined, kernel, prange
from model.mixing.kernels import enlarge_row

#: The whole frame's fine part is multiplied by this at most: a head that sharpens does so at the smaller size already.
MOST_GAIN = np.float32(1.5)
_BYTE, _HALF, _WHITE = np.uint32(255), np.float32(0.5), np.float32(255)
_LEAST = np.float32(1e-6)
#: Places are told in parts of a pixel so fine.
_FINE = np.float32(32)


@inlined
def _read(flat: Any, height: Any, width: Any, across: Any, down: Any) -> Any:
    """Return red, green and blue at a place of a frame of height x width whose pixels are `flat`; bilinear."""
    # Comparisons this way round send NaN to 0.
    across, down = across if across > ZERO else ZERO, down if down > ZERO else ZERO
    across, down = min(across, np.float32(width - 1)), min(down, np.float32(height - 1))
    left, top = int(across), int(down)
    fx, fy = across - np.float32(left), down - np.float32(top)
    # In the last column and row the part of the next is nothing: which pixel is read there does not matter.
    step_x, step_y = int(left < width - 1), width * int(top < height - 1)
    corner = top * width + left
    a, b = flat[np.uint64(corner)], flat[np.uint64(corner + step_x)]
    c, d = flat[np.uint64(corner + step_y)], flat[np.uint64(corner + step_y + step_x)]
    wa, wb, wc, wd = (ONE - fx) * (ONE - fy), fx * (ONE - fy), (ONE - fx) * fy, fx * fy
    return (
        _blended(a, b, c, d, np.uint32(0), wa, wb, wc, wd),
        _blended(a, b, c, d, np.uint32(8), wa, wb, wc, wd),
        _blended(a, b, c, d, np.uint32(16), wa, wb, wc, wd),
    )


@inlined
def _blended(a: Any, b: Any, c: Any, d: Any, shift: Any, wa: Any, wb: Any, wc: Any, wd: Any) -> Any:
    """Weigh the bytes at `shift` of four pixels."""
    upper = wa * np.float32((a >> shift) & _BYTE) + wb * np.float32((b >> shift) & _BYTE)
    return upper + wc * np.float32((c >> shift) & _BYTE) + wd * np.float32((d >> shift) & _BYTE)


@inlined
def _part_row(
    frame: Any, y: Any, projected: Any, carried: Any, shares: Any, mixed: Any, factor: Any, maps: Any
) -> None:
    height, width = frame.shape
    flat = frame.reshape(-1)
    for x in range(width):
        along_projected, along_carried, still = shares[0, x], shares[1, x], shares[2, x]
        moving = along_projected + along_carried
        total = max(moving + still, _LEAST)
        to_projected, to_carried = along_projected / total, along_carried / total
        flow_x = projected[y, x, 0] * to_projected + carried[y, x, 0] * to_carried
        flow_y = projected[y, x, 1] * to_projected + carried[y, x, 1] * to_carried
        gain = min(max(max(moving, still) + shares[3, x], ZERO), MOST_GAIN)
        red, green, blue = _read(flat, height, width, np.float32(x) + flow_x, np.float32(y) + flow_y)
        maps[0, y, x], maps[1, y, x], maps[2, y, x] = flow_x * factor, flow_y * factor, gain
        maps[3, y, x] = mixed[y, x, 0] * _WHITE - gain * red
        maps[4, y, x] = mixed[y, x, 1] * _WHITE - gain * green
        maps[5, y, x] = mixed[y, x, 2] * _WHITE - gain * blue


@kernel(f"uint32[:,::1], {F3}, {F3}, {F3}, {F3}, float32, {F3}")
def part(frame: Any, projected: Any, carried: Any, shares: Any, mixed: Any, factor: Any, maps: Any) -> None:
    """Write maps 6xHxW from what was predicted at a part of the size: flow as `where` takes it, the rest as `change`.

    `frame`: the smaller one, each pixel as one number of four bytes, red the lowest. Flows HxWx2 lead to it, in its
    pixels, `factor` of the whole frame's. `shares` 4xhxw, at half of its size: of both flows' candidates and of no
    motion, and how much detail is added. `mixed` HxWx3 in 0..1.
    """
    height = frame.shape[0]
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(shares.shape[2], np.float32)
        wide = np.empty((4, 2 * shares.shape[2]), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            for k in range(4):
                enlarge_row(shares[k], y, low, wide[k])
            _part_row(frame, np.int64(y), projected, carried, wide, mixed, factor, maps)


@kernel(f"{F3}, int16[:,:,::1], uint16[:,::1]")
def where(flow: Any, whole: Any, parts: Any) -> None:
    """Write where pixels come from, in fixed point as `field.Places`: HxWx2 and HxW; flow 2xhxw is enlarged by two.

    h, w: at least half of H and W, rounded up. Places are held to one pixel beyond the border.
    """
    height, width = parts.shape
    right, bottom = np.float32(_FINE * width), np.float32(_FINE * height)
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(flow.shape[2], np.float32)
        wide = np.empty((2, 2 * flow.shape[2]), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            for k in range(2):
                enlarge_row(flow[k], y, low, wide[k])
            row, row_parts = whole[y].reshape(-1), parts[y]
            for x in range(width):
                # Comparisons this way round send NaN to the border.
                across, down = (np.float32(x) + wide[0, x]) * _FINE, (np.float32(y) + wide[1, x]) * _FINE
                across, down = across if across > -_FINE else -_FINE, down if down > -_FINE else -_FINE
                # Truncated where both are positive: halves are rounded up.
                column = np.int32(min(across, right) + _FINE + _HALF) - np.int32(32)
                line = np.int32(min(down, bottom) + _FINE + _HALF) - np.int32(32)
                row[2 * x], row[2 * x + 1] = np.int16(column >> 5), np.int16(line >> 5)
                row_parts[x] = np.uint16(((line & 31) << 5) | (column & 31))


@kernel(f"{F3}, uint8[:,:,::1]")
def change(maps: Any, frame: Any) -> None:
    """Multiply `frame` HxWx3 by maps[0] and add maps[1:], red, green and blue in levels; 4xhxw, enlarged by two."""
    height, width = frame.shape[0], frame.shape[1]
    bands = min(height, 16)
    for band in prange(bands):
        low = np.empty(maps.shape[2], np.float32)
        wide = np.empty((4, 2 * maps.shape[2]), np.float32)
        for y in range(band * height // bands, (band + 1) * height // bands):
            for k in range(4):
                enlarge_row(maps[k], y, low, wide[k])
            row = frame[y].reshape(-1)
            for x in range(width):
                for channel in range(3):
                    value = wide[0, x] * np.float32(row[3 * x + channel]) + wide[1 + channel, x]
                    row[3 * x + channel] = np.uint8(min(max(value, ZERO), _WHITE) + _HALF)
