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

from model.motion.field import Floats, Pixels, Places, places, read, sample

#: Part of a mixture's picture that comes by way of the next frame: sampled twice it is softer, which hedges far ahead
#: (0.05 dB at t = 5), as the mixture itself does.
HEDGE = 0.5
#: Rounds by which a moment before the next frame is put on that frame's grid.
BACK_ROUNDS = 2
#: By how many pixels of an interval the motions of the last two rounds may differ; by more, there is no fixed point.
JUMP = 1.0
#: Pixels beside one without, where what is read is half of the one motion: a seam else.
BESIDE = np.ones((3, 3), np.uint8)


class Landing(NamedTuple):
    """Where the pixels of one moment come from."""

    place: int  #: of the moment among those asked for
    offset: Floats  #: HxWx2: from a pixel at t to where it is at t = 1
    to_current: Floats  #: HxWx2: from a pixel at t to where the current frame shows it
    where: Places  #: where to read what belongs to the next frame: by `offset`, but for what it hides in its own place


def landings(flow: Floats, times: Sequence[float]) -> Iterator[Landing]:
    """Yield for each of `times` where its pixels come from.

    `flow` HxWx2 is that of the next frame, pixels to the current one. The moments come in the order of time, so that
    each whole interval is gone through once: what leads to the current frame from t leads to the next from t + 1.
    """
    nothing = np.zeros_like(flow)
    moment, here = 1, Landing(0, nothing, flow, places(nothing))
    for place in sorted(range(len(times)), key=times.__getitem__):
        t = times[place]
        while moment + 1 <= t:
            moment, here = moment + 1, _landing(0, here.to_current, flow)
        part = t - moment
        if part == 0:
            yield here._replace(place=place)
        elif part < 0:
            yield _back(place, flow, np.float32(part))
        else:
            yield _landing(place, here.offset + np.float32(part) * (here.to_current - here.offset), flow)


def _landing(place: int, offset: Floats, flow: Floats) -> Landing:
    where = places(offset)
    return Landing(place, offset, np.asarray(cv2.add(offset, read(flow, where)), np.float32), where)


def _back(place: int, flow: Floats, part: np.float32) -> Landing:
    """Find, for `part` < 0 of an interval, the offsets whose field leads back to each pixel: a fixed point.

    There is none for what the next frame hides, in front of what moves, and none at the front of what moves where the
    field ends too early. Offsets then jump between two motions, and one followed by the other shows bits of what moves
    far from it. Such a pixel, and those beside it, are taken to move as the field says in their own places.
    """
    offset = part * flow
    for _ in range(BACK_ROUNDS):
        offset = np.asarray(part * sample(flow, offset), np.float32)
    landing = _landing(place, offset, flow)
    jump = cv2.scaleAdd(offset, float(-1 - 1 / part), landing.to_current)
    is_one = cv2.erode(cv2.inRange(jump, (-JUMP, -JUMP), (JUMP, JUMP)), BESIDE)
    hidden = np.nonzero(is_one == 0)
    offset[hidden] = part * flow[hidden]
    landing.to_current[hidden] = (1 + part) * flow[hidden]
    landing.where.whole[hidden] = np.stack(hidden[::-1], 1)
    landing.where.parts[hidden] = 0
    return landing


class CarriedMaps(NamedTuple):
    """A motion as it is at one moment."""

    place: int  #: of the moment among those asked for
    to_previous: Floats  #: HxWx2 pixels
    to_current: Floats  #: HxWx2 pixels
    values: Floats  #: HxW: what was carried with it

    @property
    def flow(self) -> Floats:
        """Return both as HxWx4: to the previous frame (x, y) and to the current (x, y)."""
        return np.concatenate((self.to_previous, self.to_current), 2)


def maps(to_previous: Floats, to_current: Floats, values: Floats, times: Sequence[float]) -> Iterator[CarriedMaps]:
    """Carry the next frame's flows HxWx2, and `values` HxW that belong to its pixels (a mask, a confidence)."""
    together = np.dstack((to_previous, values))
    for landing in landings(to_current, times):
        next_values = np.asarray(read(together, landing.where), np.float32)
        back = np.asarray(cv2.add(np.ascontiguousarray(next_values[..., :2]), landing.offset), np.float32)
        yield CarriedMaps(landing.place, back, landing.to_current, np.ascontiguousarray(next_values[..., 2]))


def blended(previous: Pixels, current: Pixels, motion: CarriedMaps, t: float) -> Pixels:
    """Blend both frames HxWx3, each sampled once along a motion carried to `t`, into the frame HxWx3 of that moment.

    The motion's values are weights of the previous frame, 0..1, as the network answers them: so occlusions are carried.
    Before the next frame that frame weighs less, in proportion to t: at t = 0 the current frame is all there is.
    """
    weight = motion.values * np.float32(min(1.0, t))
    pictures = sample(previous, motion.to_previous), sample(current, motion.to_current)
    return np.asarray(cv2.blendLinear(*pictures, weight, 1 - weight), np.uint8)


def corrected(current: Pixels, flow: Floats, frame: Floats, times: Sequence[float]) -> Iterator[tuple[int, Pixels]]:
    """Yield for each of `times` its index and a frame HxWx3: `current` along the carried flow HxWx2, corrected.

    The correction is what sets `frame` HxWx3 in 0..1, a mixture's for t = 1, apart from `current` warped by `flow`
    alone. It is carried along in the HEDGE that goes by way of the next frame, so much enlarged that both together
    have it whole. Before the next frame it counts in proportion to t.
    """
    main = sample(current, flow).astype(np.float32)
    moving = cv2.addWeighted(frame, 255 / HEDGE, main, 1 - 1 / HEDGE, 0, dtype=cv2.CV_8U)
    for landing in landings(flow, times):
        part = HEDGE * min(1.0, times[landing.place])
        picture = cv2.addWeighted(sample(current, landing.to_current), 1 - part, read(moving, landing.where), part, 0)
        yield landing.place, np.asarray(picture, np.uint8)
