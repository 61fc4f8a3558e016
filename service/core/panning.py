"""Finds how a picture moves as a whole, and moves it on: the cheapest of all predictions, by numpy alone.

One shift for the whole picture: found by phase correlation of small pictures, refined on samples of the large ones, and
believed only where it explains the pair better than standing still. Fit for who holds the frames and has no device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.types import Frame

#: Rows or columns, at least, of the small pictures whose phases are compared.
SMALL = 48
#: Each of their pixels is the mean of at most so many samples a side.
AVERAGED = 4
#: Samples a side by which a shift is refined and judged.
JUDGED = 32
#: Rounds of the refinement at most.
MOST_ROUNDS = 12
#: Part of the error of standing still that a shift may leave, to be believed.
CONVINCING = 0.8

_GREEN = 1


class Pan(NamedTuple):
    """By how many pixels the picture moves in one interval, to the right and down."""

    x: int
    y: int


#: Where nothing moves as a whole.
STILL = Pan(0, 0)


def pan(previous: Frame, current: Frame) -> Pan:
    """Return the pan from `previous` to `current`, two frames of one size; STILL where there is none."""
    if min(current.height, current.width) < 8:
        return STILL
    whole = max(1, min(current.height, current.width) // SMALL)
    skip = max(1, whole // AVERAGED)
    side = whole // skip
    correlation = _correlated(*(_small(frame, skip, side) for frame in (previous, current)))
    start = Pan(correlation.x * skip * side, correlation.y * skip * side)
    return _refined(previous, current, start, skip * side)


def panned(frame: Frame, shift: Pan, t: float) -> Frame:
    """Return `frame` as it looks `t` intervals on: moved by whole pixels, its border repeated."""
    height, width = frame.height, frame.width
    x = max(1 - width, min(width - 1, round(shift.x * t)))
    y = max(1 - height, min(height - 1, round(shift.y * t)))
    if not (x or y):
        return frame
    pixels = np.empty_like(frame.pixels)
    y0, y1, x0, x1 = max(0, y), height + min(0, y), max(0, x), width + min(0, x)
    pixels[y0:y1, x0:x1] = frame.pixels[y0 - y : y1 - y, x0 - x : x1 - x]
    pixels[y0:y1, :x0] = pixels[y0:y1, x0 : x0 + 1]
    pixels[y0:y1, x1:] = pixels[y0:y1, x1 - 1 : x1]
    pixels[:y0], pixels[y1:] = pixels[y0], pixels[y1 - 1]
    return Frame(pixels)


def _small(frame: Frame, skip: int, side: int) -> NDArray[np.float32]:
    """Return the frame's green in means of `side` x `side` samples, each `skip` pixels apart."""
    green = frame.pixels[::skip, ::skip, _GREEN]
    height, width = (length - length % side for length in green.shape)
    # Added up by hand: a mean over two axes of small squares takes five times as long. None exceeds 7 x 7 x 255.
    sums = np.zeros((height // side, width // side), np.uint16)
    for y in range(side):
        for x in range(side):
            sums += green[y:height:side, x:width:side]
    return np.asarray(sums / np.float32(side * side), np.float32)


def _correlated(previous: NDArray[np.float32], current: NDArray[np.float32]) -> Pan:
    """Return the shift, in pixels of these pictures, at which their phases agree best."""
    height, width = current.shape
    window = np.hanning(height).astype(np.float32)[:, None] * np.hanning(width).astype(np.float32)
    first, second = (np.fft.rfft2((picture - picture.mean()) * window) for picture in (previous, current))
    phases = second * np.conj(first)
    phases /= np.abs(phases) + 1e-6
    row, column = divmod(int(np.argmax(np.fft.irfft2(phases, s=(height, width)))), width)
    return Pan(column - width if 2 * column > width else column, row - height if 2 * row > height else row)


def _refined(previous: Frame, current: Frame, start: Pan, reach: int) -> Pan:
    """Return the best shift near `start`, by ever smaller ways; STILL where that is nearly as good."""
    errors = {STILL: _error(previous, current, STILL)}
    best = start
    for _ in range(MOST_ROUNDS):
        before, ways = best, ((0, 0), (-reach, 0), (reach, 0), (0, -reach), (0, reach))
        near = [Pan(best.x + x, best.y + y) for x, y in ways]
        for shift in near:
            if shift not in errors:
                errors[shift] = _error(previous, current, shift)
        best = min(near, key=errors.__getitem__)
        if best == before:
            if reach == 1:
                break
            reach = (reach + 1) // 2
    return best if errors[best] < CONVINCING * errors[STILL] else STILL


def _error(previous: Frame, current: Frame, shift: Pan) -> float:
    """Return the mean absolute difference of samples of the pair, once it is moved; what came into view is left out."""
    x, y = shift
    rows = _judged(max(0, y), current.height + min(0, y))
    columns = _judged(max(0, x), current.width + min(0, x))
    if not rows or not columns:
        return 255.0
    # Slices, not indices: a hundred looks at a thousand samples are most of what a pan takes.
    truth = current.pixels[_slice(rows, 0), _slice(columns, 0), _GREEN].astype(np.int16)
    return float(np.abs(truth - previous.pixels[_slice(rows, -y), _slice(columns, -x), _GREEN]).mean())


def _judged(start: int, stop: int) -> range:
    return range(start, stop, max(1, -(-(stop - start) // JUDGED)))


def _slice(places: range, shift: int) -> slice:
    """Return the same places, `shift` further on, none of them below 0."""
    return slice(places.start + shift, places[-1] + shift + 1, places.step)
