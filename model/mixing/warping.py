"""Warps a frame by the two main motions of a mixture, and measures how soft warps are, in one pass each.

Compiled loops: what belongs to a row is in the cache from its motion to its pixels. A frame is read as OpenCV reads
frames, at 32nds of a pixel, levels rounded. Frames are HxWx3 uint8 RGB, motions HxWx2 float32 in pixels. Needs numba.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.inference.cpu.compiler import F1, F3, ZERO, inlined, kernel, prange
from model.mixing.kernel_turn import kernel_turn
from model.mixing.row_reading import WORDS, blend_colours, find_corners, find_places, look_up, look_up_pixels, words
from model.motion.field import Floats, Pixels

#: Taps on each side of the middle one by which `missing_detail` softens.
REACH = 3
_HALF, _FINE = np.float32(0.5), np.float32(32)
_FRAME = "Array(uint8, 3, 'C', readonly=True)"
_PIXELS, _MOTION = "uint8[:,:,::1]", "uint64[:,::1]"


def warp(motion: Floats, frame: Pixels, rounds: int, projected: Pixels, carried: Pixels) -> Floats:
    """Write `frame` warped by `motion` put on the next frame's grid in so many rounds, and by `motion` as it is.

    Return the former motion HxWx2, as `model.motion.field.project` up to the last bit. At least one round.
    """
    flow = np.empty_like(motion)
    with kernel_turn():
        _warp(_vectors(motion), words(frame), rounds, flow, projected, carried)
    return flow


def missing_detail(previous: Pixels, current: Pixels, motion: Floats, every: int, sigma: float) -> tuple[float, float]:
    """Compare what `previous` warped by `motion` lacks of `current` with that warp's own detail.

    The detail is what softening along rows (`sigma` pixels) takes from the warp. Return the detail's energy, and the
    product of the detail and of what is lacking, both summed over rows 0, every, 2 every ...; levels 0..255, squared.
    """
    taps = np.asarray(cv2.getGaussianKernel(2 * REACH + 1, sigma, cv2.CV_32F), np.float32).ravel()[REACH:]
    sums = np.empty((-(-len(motion) // every), 2), np.float32)
    with kernel_turn():
        _missing(
            _vectors(motion), words(previous), np.ascontiguousarray(current), np.ascontiguousarray(taps), every, sums
        )
    energy, missing = sums.sum(0, np.float64)
    return float(energy), float(missing)


def _vectors(motion: Floats) -> NDArray[np.uint64]:
    """Return both numbers of each pixel of a motion HxWx2 as one of eight bytes."""
    return np.ascontiguousarray(motion).view(np.uint64)[..., 0]


@inlined
def _find(y: Any, flow_x: Any, flow_y: Any, height: Any, width: Any, across: Any, down: Any, corners: Any) -> None:
    """Find the four pixels around each place of a row, places rounded to 32nds, halves to even ones."""
    find_places(y, flow_x, flow_y, height, width, across, down)
    for x in range(width):
        across[x] = np.rint(across[x] * _FINE) / _FINE
        down[x] = np.rint(down[x] * _FINE) / _FINE
    find_corners(height, width, across, down, corners)


@inlined
def _split(line: Any, flow_x: Any, flow_y: Any) -> None:
    """Write both numbers of a row of pairs apart."""
    numbers = line.view(np.float32)
    for x in range(flow_x.shape[0]):
        flow_x[x], flow_y[x] = numbers[2 * x], numbers[2 * x + 1]


@inlined
def _read_flow(motion: Any, corners: Any, across: Any, down: Any, vectors: Any, flow_x: Any, flow_y: Any) -> None:
    """Read a row of a motion, bilinear, W numbers each way."""
    look_up(motion, corners, vectors)
    numbers = vectors.view(np.float32)
    a, b, c, d = numbers[0], numbers[1], numbers[2], numbers[3]
    for x in range(across.shape[0]):
        upper, lower = a[2 * x] + across[x] * (b[2 * x] - a[2 * x]), c[2 * x] + across[x] * (d[2 * x] - c[2 * x])
        flow_x[x] = upper + down[x] * (lower - upper)
    for x in range(across.shape[0]):
        upper = a[2 * x + 1] + across[x] * (b[2 * x + 1] - a[2 * x + 1])
        lower = c[2 * x + 1] + across[x] * (d[2 * x + 1] - c[2 * x + 1])
        flow_y[x] = upper + down[x] * (lower - upper)


@inlined
def _read_frame(
    frame: Any, height: Any, corners: Any, across: Any, down: Any, pairs: Any, levels: Any, row: Any
) -> None:
    """Read a row of a frame, bilinear, levels rounded: 3W bytes."""
    red, green, blue = levels[0], levels[1], levels[2]
    look_up_pixels(frame, height, red.shape[0], corners, pairs)
    blend_colours(pairs, across, down, red, green, blue)
    for x in range(red.shape[0]):
        row[3 * x] = np.uint8(red[x] + _HALF)
        row[3 * x + 1] = np.uint8(green[x] + _HALF)
        row[3 * x + 2] = np.uint8(blue[x] + _HALF)


@kernel(f"{_MOTION}, {WORDS}, int64, {F3}, {_PIXELS}, {_PIXELS}")
def _warp(motion: Any, frame: Any, rounds: Any, flow: Any, projected: Any, carried: Any) -> None:
    """Write as `warp`, HxWx2 and HxWx3."""
    height, width = motion.shape
    bands = min(height, 16)
    for band in prange(bands):
        corners, pairs = np.empty(width, np.uint32), np.empty((2, width), np.uint64)
        vectors, levels = np.empty((4, width), np.uint64), np.empty((3, width), np.float32)
        parts, flow_x, flow_y = (
            np.empty((2, width), np.float32),
            np.empty(width, np.float32),
            np.empty(width, np.float32),
        )
        across, down = parts[0], parts[1]
        for y in range(band * height // bands, (band + 1) * height // bands):
            row = np.int64(y)
            _split(motion[y], flow_x, flow_y)
            for number in range(rounds):
                _find(row, flow_x, flow_y, height, width, across, down, corners)
                if number == 0:
                    _read_frame(frame, height, corners, across, down, pairs, levels, carried[y].reshape(-1))
                _read_flow(motion, corners, across, down, vectors, flow_x, flow_y)
            _find(row, flow_x, flow_y, height, width, across, down, corners)
            _read_frame(frame, height, corners, across, down, pairs, levels, projected[y].reshape(-1))
            for x in range(width):
                flow[y, x, 0], flow[y, x, 1] = flow_x[x], flow_y[x]


@inlined
def _reflect(line: Any, width: Any) -> None:
    """Fill REACH numbers on both sides of W in the middle by those beyond the first and the last one."""
    for step in range(1, REACH + 1):
        for side in range(2):
            place = -step if side == 0 else width - 1 + step
            mirrored = place
            while width > 1 and (mirrored < 0 or mirrored >= width):
                mirrored = -mirrored if mirrored < 0 else 2 * (width - 1) - mirrored
            line[REACH + place] = line[REACH + (mirrored if width > 1 else 0)]


@inlined
def _add_detail(line: Any, taps: Any, newer: Any, channel: Any, detail: Any, sums: Any) -> None:
    """Add a row of one colour to its sums: of the detail of `line` squared, and of that times what is lacking."""
    width = detail.shape[0]
    for x in range(width):
        # By differences, so that there is none where all is flat; written out, so that they become vectors.
        twice = line[x + 3] + line[x + 3]
        near, next_but_one, far = line[x + 2] + line[x + 4], line[x + 1] + line[x + 5], line[x] + line[x + 6]
        detail[x] = (twice - near) * taps[1] + (twice - next_but_one) * taps[2] + (twice - far) * taps[3]
    energy, missing = ZERO, ZERO
    for x in range(width):
        energy += detail[x] * detail[x]
        missing += (np.float32(newer[3 * x + channel]) - line[x + 3]) * detail[x]
    sums[0] += energy
    sums[1] += missing


@kernel(f"{_MOTION}, {WORDS}, {_FRAME}, {F1}, int64, float32[:,::1]")
def _missing(motion: Any, previous: Any, current: Any, taps: Any, every: Any, sums: Any) -> None:
    """Write the sums of `missing_detail`, of each row that is looked at."""
    height, width = motion.shape
    bands = min(sums.shape[0], 16)
    for band in prange(bands):
        corners, pairs = np.empty(width, np.uint32), np.empty((2, width), np.uint64)
        across, down = np.empty(width, np.float32), np.empty(width, np.float32)
        flow_x, flow_y, detail = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
        lines = np.empty((3, width + 2 * REACH), np.float32)
        for number in range(band * sums.shape[0] // bands, (band + 1) * sums.shape[0] // bands):
            y = np.int64(number * every)
            _split(motion[y], flow_x, flow_y)
            _find(y, flow_x, flow_y, height, width, across, down, corners)
            look_up_pixels(previous, height, width, corners, pairs)
            levels = lines[:, REACH : REACH + width]
            blend_colours(pairs, across, down, levels[0], levels[1], levels[2])
            sums[number] = ZERO
            for channel in range(3):
                line = lines[channel]
                for x in range(width):
                    line[REACH + x] = np.float32(np.int32(line[REACH + x] + _HALF))
                _reflect(line, width)
                _add_detail(line, taps, current[y].reshape(-1), channel, detail, sums[number])
