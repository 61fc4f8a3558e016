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
from numpy.typing import NDArray

from model.inference import padding
from model.mixing import byte_pictures, candidates, kernels, predictor, refining
from model.mixing.head import MixingHead
from model.mixing.kernel_turn import kernel_turn
from model.mixing.lesson import Lesson, sampled
from model.mixing.lesson import step as lesson_step
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

    pixels: Pixels  #: HxWx3, as `byte_pictures` has them: read-only
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
    shares = predictor.share(head, names, stack.frames, stack.flow, sharpening=detail, tuning=tuning)
    flows = stack.flow, motions.main if ahead == 1 else motions.main * np.float32(ahead)
    parts = _Parts(stack.frames, names, small_current, flows, _in_order(shares.shares, head.config.candidates, names))
    pixels, total, levels = _answered(parts, current) if doublings == 1 else _enlarged(parts, current, doublings)
    if lesson is not None:
        lesson = lesson.guessed_levels(stack.frames, shares.shares, levels)
    is_finite = math.isfinite(total + sum(shares.means.values()))
    end = time.perf_counter()
    height, width = (padding.padded(side, STRIDE) for side in small_current.shape[:2])
    report = MixReport(shares.means, between - began, end - between, predictor.macs(head, height, width))
    return ReducedMixture(pixels, stack.flow, report, motions, is_finite, lesson)


def find_motions(
    previous: Pixels, current: Pixels, head: MixingHead, about: HeadMetadata, scale: float
) -> candidates.Motions:
    """Find the motions that `mix` follows between two frames: of the smaller ones."""
    factor = 2 ** DOUBLINGS[scale]
    return predictor.find_motions(_reduced(previous, factor), _reduced(current, factor), head, about)


class _Parts(NamedTuple):
    """What a frame is made of, at a part of its size."""

    frames: Pixels  #: Khxwx3: the candidates
    names: Sequence[str]  #: K: theirs
    current: Pixels  #: hxwx3
    flows: tuple[Floats, Floats]  #: hxwx2 to it: projected, and as it was found
    shares: Floats  #: K+1 maps at half of that size: of each candidate, and how much detail is added

    @property
    def needed(self) -> NDArray[np.int64]:
        """Return which shares say how the whole frame is warped, below 0 where there are none; and the detail's."""
        needed = [self.names.index(name) if name in self.names else -1 for name in _WARPED]
        return np.array([*needed, len(self.names)])


def _in_order(shares: Floats, places: Sequence[str], names: Sequence[str]) -> Floats:
    """Return shares of a head's candidates `places`, and the detail, as those of `names`; others weigh nothing."""
    if tuple(places) == tuple(names):
        return shares
    return np.ascontiguousarray(shares[[*(places.index(name) for name in names), len(places)]])


def _answered(parts: _Parts, current: Pixels) -> tuple[Pixels, float, Floats]:
    """Return the whole frame HxWx3, a sum that is finite where all is, and some levels of the mixture, for its lesson.

    Of parts at half the size.
    """
    height, width = parts.current.shape[:2]
    every = lesson_step(height, width)
    levels = np.empty(tuple((side + every - 1 - every // 2) // every for side in (height, width)), np.float32)
    sums = np.empty(height, np.float32)

    def answer(out: Pixels) -> None:
        refining.answer(
            parts.frames, parts.names.index("soft"), parts.shares, words(parts.current), *parts.flows, parts.needed,
            np.float32(2), words(current), out, sums, every, levels,
        )  # fmt: skip

    with kernel_turn():
        pixels = byte_pictures.filled(current.shape, answer)
    return pixels, float(sums.sum()), levels.ravel()


def _enlarged(parts: _Parts, current: Pixels, doublings: int) -> tuple[Pixels, float, Floats]:
    """Return as `_answered`, of parts at a quarter of the size or less: their maps are enlarged before."""
    mixture, maps = np.empty(parts.current.shape, np.float32), np.empty((6, *parts.current.shape[:2]), np.float32)
    sums, factor = np.empty(len(parts.current), np.float32), np.float32(2**doublings)
    with kernel_turn():
        kernels.mix(parts.frames, parts.names.index("soft"), parts.shares, mixture)
        refining.part(words(parts.current), *parts.flows, parts.shares, parts.needed, mixture, factor, maps, sums)
    return _refined(current, maps, doublings), float(sums.sum()), sampled(mixture).ravel()


def _refined(current: Pixels, maps: Floats, doublings: int) -> Pixels:
    """Return the whole frame HxWx3 by maps 6xhxw at the smaller size."""
    for _ in range(doublings - 1):
        maps = np.stack([_doubled(values) for values in maps])
    with kernel_turn():
        return byte_pictures.filled(current.shape, lambda out: refining.refine(maps, words(current), out))


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
