"""Predicts at a half or a quarter of the size: a head mixes what is coarse, one warp of the whole frame adds the rest.

The frame is g * W + (M - g * w), enlarged: W is the current frame warped along the candidates' mean flow, M and w are
the mixture and that same warp at the smaller size, and g is how far the candidates that are sharp weigh. What both
sizes have is the mixture's; what only the whole frame has is moved once. Frames are HxWx3 uint8 RGB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from model.inference import padding
from model.mixing import candidates, predictor, refining
from model.mixing.head import MixingHead
from model.mixing.kernel_turn import kernel_turn
from model.mixing.lesson import Lesson
from model.mixing.predictor import MixReport
from model.mixing.prepared import STRIDE
from model.mixing.row_reading import words
from model.mixing.weights import HeadMetadata
from model.motion.field import Floats, Pixels, check

#: Sizes at which motion can be found and mixed, as parts of the frame's sides, and how many times they are doubled.
DOUBLINGS = {0.5: 1, 0.25: 2}
#: The candidates whose shares say how the whole frame is warped: along both flows, or not at all.
_WARPED = ("projected", "carried", "still")


class ReducedMixture(NamedTuple):
    """One frame that was predicted at a part of its size."""

    pixels: Pixels  #: HxWx3
    small_flow: Floats  #: hxwx2 in pixels of the smaller frame: the main candidate's, to the current frame
    report: MixReport
    motions: candidates.Motions  #: between the two smaller frames
    is_finite: bool  #: whether every value was, before rounding
    lesson: Lesson | None = None  #: as `predictor.Mixed`'s, of the smaller frames

    @property
    def frame(self) -> Floats:
        """Return the frame HxWx3 in 0..1."""
        return np.asarray(self.pixels, np.float32) / np.float32(255)

    @property
    def flow(self) -> Floats:
        """Return the main candidate's flow HxWx2 in pixels of the whole frame."""
        height, width = self.pixels.shape[:2]
        flow, factor = self.small_flow, 1
        while flow.shape[0] < height or flow.shape[1] < width:
            flow, factor = _doubled(flow), 2 * factor
        return np.ascontiguousarray(flow[:height, :width]) * np.float32(factor)


def mix(
    previous: Pixels,
    current: Pixels,
    head: MixingHead,
    about: HeadMetadata,
    scale: float,
    ahead: int = 1,
    motions: candidates.Motions | None = None,
    lesson: Lesson | None = None,
) -> ReducedMixture:
    """Predict as `predictor.mix` without the network, at `scale` (0.5 or 0.25) of the size; no bicubic warps.

    ValueError where the frames differ in size or are no HxWx3 uint8; KeyError for another scale.
    """
    check(previous, current)
    began = time.perf_counter()
    doublings, names = DOUBLINGS[scale], head.config.without_network
    small_previous, small_current = (_reduced(frame, 2**doublings) for frame in (previous, current))
    motions = motions or candidates.find(small_previous, small_current, names, about.preset, about.sharpening > 0)
    stack = candidates.build(small_previous, small_current, names, None, about.preset, ahead, motions)
    between = time.perf_counter()
    lesson = None if lesson is None else lesson.learnt(small_current)
    tuning = None if lesson is None else lesson.tuning()
    detail = about.sharpening * motions.detail
    mixture = predictor.weigh(head, names, stack.frames, stack.flow, sharpening=detail, tuning=tuning)
    if lesson is not None:
        lesson = lesson.guessed(stack.frames, mixture.shares, mixture.frame)
    flows = stack.flow, motions.main if ahead == 1 else motions.main * np.float32(ahead)
    maps, total = _maps(small_current, flows, mixture, head.config.candidates, 2**doublings)
    is_finite = math.isfinite(total + sum(mixture.means.values()))
    pixels = _refined(current, maps, doublings)
    end = time.perf_counter()
    height, width = (padding.padded(side, STRIDE) for side in small_current.shape[:2])
    report = MixReport(mixture.means, between - began, end - between, predictor.macs(head, height, width))
    return ReducedMixture(pixels, stack.flow, report, motions, is_finite, lesson)


def find_motions(
    previous: Pixels, current: Pixels, head: MixingHead, about: HeadMetadata, scale: float
) -> candidates.Motions:
    """Find the motions that `mix` follows between two frames: of the smaller ones."""
    factor = 2 ** DOUBLINGS[scale]
    return predictor.find_motions(_reduced(previous, factor), _reduced(current, factor), head, about)


def _maps(
    current: Pixels,
    flows: tuple[Floats, Floats],
    mixture: predictor.Weighed,
    places: Sequence[str],
    factor: int,
) -> tuple[Floats, float]:
    """Return what `refining.part` writes, 6xhxw, of the smaller frame `current`; and the sum of all that.

    `flows` hxwx2 to it: projected, and as it was found. `places`: the head's candidates.
    `factor`: how many times larger the whole frame's sides are.
    """
    needed = [places.index(name) if name in places else -1 for name in _WARPED]
    needed.append(len(mixture.shares) - 1)
    maps, sums = np.empty((6, *current.shape[:2]), np.float32), np.empty(len(current), np.float32)
    with kernel_turn():
        refining.part(
            words(current), *flows, mixture.shares, np.array(needed), mixture.frame, np.float32(factor), maps, sums
        )
    return maps, float(sums.sum())


def _refined(current: Pixels, maps: Floats, doublings: int) -> Pixels:
    """Return the whole frame HxWx3 by maps at the smaller size."""
    for _ in range(doublings - 1):
        maps = np.stack([_doubled(values) for values in maps])
    pixels = np.empty(current.shape, np.uint8)
    with kernel_turn():
        refining.refine(maps, words(current), pixels)
    return pixels


def _reduced(frame: Pixels, factor: int) -> Pixels:
    """Reduce a frame by a whole number, its border repeated where sides are no multiples of it."""
    height, width = frame.shape[:2]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        frame = np.asarray(cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    size = frame.shape[1] // factor, frame.shape[0] // factor
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _doubled(maps: Floats) -> Floats:
    """Enlarge maps HxWx.. by two, bilinear."""
    size = 2 * maps.shape[1], 2 * maps.shape[0]
    return np.asarray(cv2.resize(maps, size, interpolation=cv2.INTER_LINEAR), np.float32)
