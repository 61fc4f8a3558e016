"""Predicts the next frame as a mixture of motions: candidates, a head's weights, one sum.

Frames are HxWx3 uint8 RGB in and HxWx3 float32 in 0..1 out. Runs on the processor, convolutions by torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from model import checkpoint
from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.inference import padding, pixels
from model.inference.cpu.packing import WorkingMemory
from model.inference.cpu.precision import Arithmetic
from model.inference.predict import FramePairs
from model.inference.weight_cache import WeightCache
from model.mixing import arithmetic_choice, byte_pictures, candidates, head_kernels, kernels
from model.mixing.candidate_names import MOVED
from model.mixing.head import MixingHead
from model.mixing.kernel_turn import kernel_turn
from model.mixing.lesson import Lesson, Tuning
from model.mixing.prepared import STRIDE, PreparedHead
from model.mixing.weights import HeadMetadata
from model.motion.field import Floats, Pixels, check

#: The network answers at this scale where it is a candidate: a quarter of the cost for 0.1 dB.
NETWORK_SCALE = 0.5

memory = WorkingMemory()  #: of whoever's `kernel_turn` it is
_prepared = WeightCache[PreparedHead]()


@dataclass(frozen=True, slots=True)
class MixReport:
    """What a mixture was made of, and what it took."""

    #: Mean share of each candidate, by name: 1 in all.
    shares: dict[str, float]
    #: Seconds for finding the motions and warping, and for weighing.
    motion_s: float
    mixing_s: float
    #: Multiply-adds of the head's convolutions.
    macs: int
    #: Blocks that the network ran, one bit each; empty where it was no candidate.
    route: tuple[bool, ...] = ()


class NetworkAnswer(NamedTuple):
    """What the network predicts at half size, as a candidate."""

    frame: Pixels  #: HxWx3
    route: tuple[bool, ...]  #: one bit a block


class Mixed(NamedTuple):
    """One predicted frame."""

    frame: Floats  #: HxWx3 in 0..1, unrounded
    flow: Floats  #: HxWx2: the main candidate's, to the current frame; `field.steady` gives its confidence
    report: MixReport
    motions: candidates.Motions  #: between the two frames it was predicted from
    lesson: Lesson | None = None  #: for the stream's next pair, where there was one for this

    @property
    def pixels(self) -> Pixels:
        """Return the frame HxWx3, rounded, as `byte_pictures` has them: read-only."""
        return byte_pictures.filled(self.frame.shape, lambda out: cv2.convertScaleAbs(self.frame, out, 255.0))

    @property
    def is_finite(self) -> bool:
        """Tell whether every value is."""
        return bool(np.isfinite(self.frame.sum() + self.flow.sum() + sum(self.report.shares.values())))


class Shared(NamedTuple):
    """A head's weighing of its candidates, before they are mixed."""

    means: dict[str, float]  #: mean share of each candidate, by name
    shares: Floats  #: as `Weighed`'s


class Weighed(NamedTuple):
    """A head's weighing of its candidates: the mixed frame, and each candidate's share."""

    frame: Floats  #: HxWx3 in 0..1
    means: dict[str, float]  #: mean share of each candidate, by name
    #: (K+1)xhxw at half size, of the frame padded to STRIDE: the shares in the order of the head's candidates (with
    #: `crisp`, its own behind them), then how much of the first without its softened copy is added.
    shares: Floats


def mix(
    previous: Pixels,
    current: Pixels,
    network: DMVFN | None,
    head: MixingHead,
    about: HeadMetadata,
    ahead: int = 1,
    motions: candidates.Motions | None = None,
    lesson: Lesson | None = None,
) -> Mixed:
    """Predict the frame after two of one size; with `network` its answer is a candidate where the head knows it.

    `ahead`: the frame so many after the current one, without the network. `motions`: of these frames, as the answer
    before reported them. `lesson`: as the pair before answered it, its `ahead` 1, without the network. ValueError where
    the frames differ in size or are no HxWx3 uint8; FloatingPointError where the network's answer is not finite.
    """
    check(previous, current)
    began = time.perf_counter()
    names = head.config.without_network if network is None else head.config.candidates
    answer = network_answer(network, previous, current) if network is not None and "network" in names else None
    is_crisp = about.crispness > 0
    names_needed = (*names, "crisp") if is_crisp else names
    motions = motions or candidates.find(previous, current, names_needed, about.preset, about.sharpening > 0)
    network_frame = None if answer is None else answer.frame
    stack = candidates.build(previous, current, names_needed, network_frame, about.preset, ahead, motions)
    between = time.perf_counter()
    lesson = None if lesson is None else lesson.learnt(current)
    tuning = None if lesson is None else lesson.tuning()
    detail = about.sharpening * motions.detail
    mixture = weigh(head, names, stack.frames, stack.flow, None, about.crispness, detail, tuning)
    if lesson is not None:
        lesson = lesson.guessed(stack.frames, mixture.shares, mixture.frame)
    end = time.perf_counter()
    height, width = (padding.padded(side, STRIDE) for side in current.shape[:2])
    route = answer.route if answer is not None else ()
    report = MixReport(mixture.means, between - began, end - between, macs(head, height, width), route)
    return Mixed(mixture.frame, stack.flow, report, motions, lesson)


def find_motions(previous: Pixels, current: Pixels, head: MixingHead, about: HeadMetadata) -> candidates.Motions:
    """Find the motions that `mix` without the network follows between two frames."""
    return candidates.find(previous, current, head.config.without_network, about.preset, about.sharpening > 0)


def rollout(
    previous: Pixels, current: Pixels, steps: int, network: DMVFN | None, head: MixingHead, about: HeadMetadata
) -> list[Mixed]:
    """Predict `steps` frames, at least one: all from these two, along the motion between them.

    Where the network's answer is a candidate, which is the next frame only, each from the two before it, predicted ones
    rounded.
    """
    answers = [mix(previous, current, network, head, about)]
    for step in range(2, steps + 1):
        if answers[-1].report.route:
            previous, current = current, rounded(answers[-1].frame)
            answers.append(mix(previous, current, network, head, about))
        else:
            answers.append(mix(previous, current, None, head, about, step, answers[0].motions))
    return answers


def mean(previous: Pixels, current: Pixels, preset: str = "medium") -> Floats:
    """Predict without weights: the mean HxWx3 in 0..1 of the flow as it was found and of it projected."""
    check(previous, current)
    first, second = candidates.build(previous, current, ("projected", "carried"), preset=preset).frames
    frame: Floats = (first.astype(np.float32) + second) * np.float32(0.5 / 255)
    return frame


def weigh(
    head: MixingHead,
    names: Sequence[str],
    frames: Sequence[Pixels] | Pixels,
    flow: Floats,
    arithmetic: Arithmetic | None = None,
    crispness: float = 0.0,
    sharpening: float = 0.0,
    tuning: Tuning | None = None,
) -> Weighed:
    """Mix K frames HxWx3, the candidates `names` of the head's, along flow HxWx2.

    A candidate that is absent looks like the first one and weighs nothing. `arithmetic`: in which to convolve; None: in
    the quickest here (`arithmetic_choice`). By bfloat16 weights differ by a hundredth.
    Of the first candidate, warped bicubically, the difference from it is added, `crispness` times, as far as the
    candidates that move weigh: that is one frame more, the last; and the first's from its softened copy, `sharpening`
    times. `tuning`: a stream's own numbers beside all those. Frames that lie as the head's candidates do, KxHxWx3, are
    not copied.
    """
    frame = np.empty((*flow.shape[:2], 3), np.float32)
    with kernel_turn():
        stack = _stacked(frames, names, head.config.candidates)
        means, shares = _shared(head, names, stack, flow, arithmetic, crispness, sharpening, tuning)
        kernels.mix(stack, head.config.candidates.index("soft"), shares, frame)
    return Weighed(frame, means, shares)


def share(
    head: MixingHead,
    names: Sequence[str],
    frames: Pixels,
    flow: Floats,
    sharpening: float = 0.0,
    tuning: Tuning | None = None,
) -> Shared:
    """Weigh K frames KxHxWx3 as `weigh`, but do not mix them."""
    with kernel_turn():
        stack = _stacked(frames, names, head.config.candidates)
        return _shared(head, names, stack, flow, sharpening=sharpening, tuning=tuning)


def _shared(
    head: MixingHead,
    names: Sequence[str],
    stack: Pixels,
    flow: Floats,
    arithmetic: Arithmetic | None = None,
    crispness: float = 0.0,
    sharpening: float = 0.0,
    tuning: Tuning | None = None,
) -> Shared:
    """Weigh a `_stacked` stack as `weigh`, within a kernel's turn."""
    height, width = (padding.padded(side, STRIDE) // 2 for side in flow.shape[:2])
    places = head.config.candidates
    added = np.zeros(len(places), np.float32)
    if tuning is not None:
        added, sharpening, crispness = tuning.logits, sharpening + tuning.sharpening, crispness + tuning.crispness
    kind = arithmetic or arithmetic_choice.quickest()
    convolutions = _prepared.of(head, lambda: PreparedHead(head, memory, kind), kind)
    logits = convolutions.logits(stack[: len(places)], np.ascontiguousarray(flow))
    shares, sums = np.empty((len(stack) + 1, height, width), np.float32), np.empty((height, len(places)), np.float32)
    is_present = np.array([name in names for name in places], np.uint8)
    is_moving = np.array([name in MOVED for name in places], np.uint8)
    head_kernels.share(
        logits, added, is_present, is_moving, np.float32(sharpening), np.float32(crispness), shares, sums
    )
    means = (sums.sum(0, np.float64) / (height * width)).tolist()
    return Shared({name: means[places.index(name)] for name in names}, shares)


def _stacked(frames: Sequence[Pixels] | Pixels, names: Sequence[str], places: Sequence[str]) -> Pixels:
    """Return frames in the order of a head's candidates `places`, the first in place of absent ones, then those left.

    As they are where they lie so, else copies in the working memory.
    """
    if isinstance(frames, np.ndarray) and tuple(names) == tuple(places):
        return np.ascontiguousarray(frames)
    order = [names.index(name) if name in names else 0 for name in places] + list(range(len(names), len(frames)))
    stack = memory.take("stack", np.uint8, len(order), *frames[0].shape)
    for place, number in enumerate(order):
        stack[place] = frames[number]
    return stack


def network_answer(network: DMVFN, previous: Pixels, current: Pixels) -> NetworkAnswer:
    """Predict by the network at half size, along the route it chooses, on whatever device it is.

    FloatingPointError if a value is not finite.
    """
    bgr = checkpoint.metadata(network).colour_order == "BGR"
    device = next(network.parameters()).device
    first, second = (pixels.to_frames([frame], device, bgr=bgr) for frame in (previous, current))
    pairs = FramePairs(network, first, second, NETWORK_SCALE)
    routes = routing.auto(pairs.probabilities())
    out = pairs.predict(routes)
    # A frame alone would not show an infinite flow: it is clamped.
    if not bool(torch.isfinite(out.frame.sum() + out.flow.sum() + out.mask.sum())):
        raise FloatingPointError("the network's answer was not finite")
    frame = pixels.to_pictures(out.frame[0], bgr=bgr).cpu().numpy()
    return NetworkAnswer(frame, tuple(map(bool, routes[0].tolist())))


def rounded(frame: Floats) -> Pixels:
    """Round a frame HxWx3 in 0..1 to uint8."""
    return np.asarray(cv2.convertScaleAbs(frame, alpha=255.0), np.uint8)


def macs(head: MixingHead, height: int, width: int) -> int:
    """Count the multiply-adds of a head's convolutions for a frame of height x width, multiples of STRIDE."""
    fine, middle, coarse = head.config.widths
    kinds = len(head.config.candidates)
    at = [height * width // divisor for divisor in (4, 16, 64)]
    weights = (
        (at[0], (kinds + 4) * fine + (middle + fine) * fine + fine * (kinds + 1)),
        (at[1], fine * middle + middle * middle + (coarse + middle) * middle),
        (at[2], middle * coarse + 2 * coarse * coarse),
    )
    return sum(9 * pixels * pairs for pixels, pairs in weights)
