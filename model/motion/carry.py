"""Carries the motion of one prediction on along itself, to any moment t > 0 (t = 1: the frame that was predicted).

The field of the next frame is taken to be steady in place: within an interval, what is at a place moves as the field
says there. Constant velocity is exact; an acceleration a is not seen, and a pixel is then out by a t (t + 1) / 2.
Frames are sampled from those that were given, not from one another. Knows no estimator and no transport.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from model.motion.field import Floats, Pixels, places, read, sample

#: Part of a mixture's picture that comes by way of the next frame: sampled twice it is softer, which hedges far ahead
#: (0.05 dB at t = 5), as the mixture itself does.
HEDGE = 0.5
#: Rounds by which a moment before the next frame is put on that frame's grid.
BACK_ROUNDS = 2


def landings(flow: Floats, times: Sequence[float]) -> Iterator[tuple[int, Floats]]:
    """Yield for each of `times` its index and an offset HxWx2: from a pixel at t to where it is at t = 1.

    `flow` HxWx2 is that of the next frame, pixels to the current one. The moments come in the order of time, so that
    each whole interval is gone through once.
    """
    moment, whole = 1, np.zeros_like(flow)  # the offset at a whole moment
    for index in sorted(range(len(times)), key=times.__getitem__):
        t = times[index]
        while moment + 1 <= t:
            whole, moment = _onward(whole, flow, 1.0), moment + 1
        part = t - moment
        yield index, (whole if part == 0 else _onward(whole, flow, part) if part > 0 else _back(flow, part))


def _onward(offset: Floats, flow: Floats, part: float) -> Floats:
    return np.asarray(offset + np.float32(part) * sample(flow, offset), np.float32)


def _back(flow: Floats, part: float) -> Floats:
    """Find, for `part` < 0 of an interval, the offset whose field leads back to it: a fixed point."""
    offset = np.float32(part) * flow
    for _ in range(BACK_ROUNDS):
        offset = np.asarray(np.float32(part) * sample(flow, offset), np.float32)
    return offset


class CarriedMaps(NamedTuple):
    """A motion as it is at one moment."""

    place: int  #: of the moment among those asked for
    flow: Floats  #: HxWx4 pixels: to the previous frame (x, y) and to the current (x, y)
    values: Floats  #: HxW: what was carried with it


def maps(to_previous: Floats, to_current: Floats, values: Floats, times: Sequence[float]) -> Iterator[CarriedMaps]:
    """Carry the next frame's flows HxWx2, and `values` HxW that belong to its pixels (a mask, a confidence)."""
    both = np.concatenate((to_previous, to_current), 2)
    for index, offset in landings(to_current, times):
        where = places(offset)
        flow = np.asarray(read(both, where), np.float32)
        flow += np.concatenate((offset, offset), 2)
        yield CarriedMaps(index, flow, np.asarray(read(values, where), np.float32))


def blended(previous: Pixels, current: Pixels, motion: CarriedMaps, t: float) -> Pixels:
    """Blend both frames HxWx3, each sampled once along a motion carried to `t`, into the frame HxWx3 of that moment.

    The motion's values are weights of the previous frame, 0..1, as the network answers them: so occlusions are carried.
    Before the next frame that frame weighs less, in proportion to t: at t = 0 the current frame is all there is.
    """
    first, second = (np.ascontiguousarray(motion.flow[..., side : side + 2]) for side in (0, 2))
    weight = motion.values * np.float32(min(1.0, t))
    frame = cv2.blendLinear(sample(previous, first), sample(current, second), weight, 1 - weight)
    return np.asarray(frame, np.uint8)


def corrected(current: Pixels, flow: Floats, frame: Floats, times: Sequence[float]) -> Iterator[tuple[int, Pixels]]:
    """Yield for each of `times` its index and a frame HxWx3: `current` along the carried flow HxWx2, corrected.

    The correction is what sets `frame` HxWx3 in 0..1, a mixture's for t = 1, apart from `current` warped by `flow`
    alone: it is carried along. So is HEDGE of that warped frame, in place of as much of the current one. Before the
    next frame both count in proportion to t.
    """
    main = sample(current, flow)
    moving = frame * np.float32(255) - np.float32(1 - HEDGE) * main
    for index, offset in landings(flow, times):
        where, part = places(offset), np.float32(min(1.0, times[index]))
        picture = sample(current, np.asarray(offset + read(flow, where), np.float32))
        values = np.float32(1 - HEDGE * part) * picture + part * read(moving, where)
        yield index, np.asarray(cv2.convertScaleAbs(np.maximum(values, 0)), np.uint8)
