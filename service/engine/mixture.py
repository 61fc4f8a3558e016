"""Predicts by mixtures of motions on the processor: methods flow and mix, and the live head of adaptive requests.

Synchronous, called from the device thread, one request after the other. Knows nothing of queues or deadlines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from model import flops
from model.dmvfn.network import DMVFN
from model.mixing import weights
from model.mixing.head import MixingHead
from model.mixing.lesson import Lesson
from model.mixing.threads import SMALL, MixingThreads
from model.mixing.weights import HeadMetadata
from model.motion import carry
from model.motion import field as motion
from model.motion.field import Floats
from service.core.errors import Internal, ServiceError
from service.core.substitute import BEFORE
from service.core.types import BLOCKS, Frame, Method, PredictRequest, Priority, Step
from service.engine import carried, moving_parts
from service.engine.device import DeviceWork
from service.engine.known_motions import KnownMotions
from service.engine.stream_lessons import StreamLessons

if TYPE_CHECKING:
    from model.mixing.candidates import Motions
    from model.mixing.moving import Box
    from model.mixing.predictor import Mixed
    from model.mixing.reduced import ReducedMixture

    Mixer = Callable[..., Mixed | ReducedMixture]
    Finder = Callable[..., Motions]

MixtureOutcome = tuple[Step, ...] | ServiceError


@dataclass(slots=True, eq=False)
class MixtureRun:
    """What a run of several works did: their outcomes, the frames predicted, and how long it took."""

    outcomes: dict[DeviceWork, MixtureOutcome] = field(default_factory=dict)
    frames: float = 0  #: those carried on from another count as the part that they take
    seconds: float = 0.0
    motion_seconds: float = 0.0  #: of them, for the candidates

    @property
    def mixing_seconds(self) -> float:
        """Return the seconds for weighing the candidates, and all else."""
        return max(0.0, self.seconds - self.motion_seconds)


class Mixtures:
    """The head that methods flow and mix weigh by, and the live head; and the network, for mix."""

    def __init__(
        self, network: DMVFN, head: tuple[MixingHead, HeadMetadata], live: tuple[MixingHead, HeadMetadata]
    ) -> None:
        self._network, self._head, self._live = network, head, live
        self.version = head[1].version
        #: What the head's file says of itself on held-out clips, as it is shown beside the network's: "psnr_t1_flow" ..
        self.scores = {f"{name}_flow": value for name, value in head[1].scores.items() if name.endswith(("_t1", "_t3"))}
        self.known = KnownMotions()
        self._lessons = StreamLessons()
        self._threads = MixingThreads()
        self.methods = (Method.FLOW, Method.MIX) if "network" in head[0].config.candidates else (Method.FLOW,)

    @classmethod
    def load(cls, network: DMVFN, path: Path | None = None) -> Mixtures | None:
        """Load the head at `path` (None: ours) and our live head; None where numba is missing, by which they run.

        Raises CheckpointError for a file that is no head.
        """
        if find_spec("numba") is None:
            return None
        return cls(network, weights.load(path or weights.DEFAULT), weights.load(weights.LIVE))

    @cached_property
    def _mixing(self) -> Any:
        """Import the modules that mix, when one is first needed: all, so that the warm-up loads what requests will run.

        numba is optional, and a machine's very first start compiles its loops for seconds.
        """
        from model.mixing import moving, predictor, reduced

        scale = predictor.NETWORK_SCALE
        return SimpleNamespace(
            mix=predictor.mix,
            find=predictor.find_motions,
            weigh=predictor.weigh,
            network_scale=scale,
            reduced=reduced.mix,
            find_reduced=reduced.find_motions,
            boxes=moving.boxes,
            core=moving.core,
        )

    def choose_threads(self) -> None:
        """Find out by how many threads small frames are mixed best: some tenths of a second."""
        head, (height, width) = self._live[0], SMALL
        names = head.config.without_network
        frames = [np.zeros((height, width, 3), np.uint8)] * len(names)
        flow = np.zeros((height, width, 2), np.float32)
        weigh = self._mixing.weigh
        self._threads.choose(lambda: weigh(head, names, frames, flow))

    def run(self, works: Iterable[DeviceWork], method: Method, keep: Callable[[DeviceWork], bool]) -> MixtureRun:
        """Predict every work's frames by `method`, or by the live head where it says so.

        `keep` is asked before every step but the very first; a work that is not kept comes back with its steps so far.
        """
        record, start = MixtureRun(), time.perf_counter()
        for number, work in enumerate(works):
            record.outcomes[work] = self._predict(work, method, keep, record) if number == 0 or keep(work) else ()
        record.seconds = time.perf_counter() - start
        return record

    def _predict(
        self, work: DeviceWork, method: Method, keep: Callable[[DeviceWork], bool], record: MixtureRun
    ) -> MixtureOutcome:
        request, is_less = work.request, work.live or work.shifted
        network = self._network if method is Method.MIX and not is_less else None
        method = Method.MIX if network is not None else Method.FLOW
        if frames := carried.repeats(request, method):
            return frames
        if work.shifted and (frames := self._shift(request, record)):
            return frames
        head = self._live if is_less else self._head
        mix, find = self._mixer(request, network, head), self._finder(request, head)

        def goes_on() -> bool:
            return keep(work)

        if network is None and (parts := self._by_parts(request, mix, find, goes_on, record)) is not None:
            return parts

        remember = partial(self.known.remember, request.current) if request.options.allows_live else None
        learns = network is None and request.priority is Priority.LIVE
        lesson = self._lessons.before(request, head[1]) if learns else None
        return self._roll(request, mix, method, goes_on, record, remember, lesson=lesson)

    def _mixer(self, request: PredictRequest, network: DMVFN | None, head: tuple[MixingHead, HeadMetadata]) -> Mixer:
        """Return what mixes one frame of this request, at the size that it asks for."""
        if network is None and request.options.scale != 1.0:
            return partial(self._mixing.reduced, head=head[0], about=head[1], scale=request.options.scale)
        return partial(self._mixing.mix, network=network, head=head[0], about=head[1])

    def _finder(self, request: PredictRequest, head: tuple[MixingHead, HeadMetadata]) -> Finder:
        """Return what finds the motions that `_mixer`'s answer follows, without the network."""
        if request.options.scale != 1.0:
            return partial(self._mixing.find_reduced, head=head[0], about=head[1], scale=request.options.scale)
        return partial(self._mixing.find, head=head[0], about=head[1])

    def _by_parts(
        self, request: PredictRequest, mix: Mixer, find: Finder, goes_on: Callable[[], bool], record: MixtureRun
    ) -> MixtureOutcome | None:
        """Predict only what moves; None where that is most of the frame, or where something leaves the parts."""
        boxes = self._mixing.boxes(request.previous.pixels, request.current.pixels, request.options.scale)
        if boxes is None:
            return None
        places: list[Box] = []
        flows, parts = list[Floats](), list[tuple[Step, ...]]()
        for box in boxes:
            if parts and not goes_on():
                return ()
            try:
                place, outcome = self._part(request, box, mix, find, goes_on, record, flows.append)
            except moving_parts.MotionLeaves:
                return None
            if isinstance(outcome, ServiceError):
                return outcome
            places.append(place)
            parts.append(outcome)
        if request.options.allows_live:
            self.known.remember(request.current, moving_parts.assemble_flow(request, places, flows))
        return moving_parts.assemble(request, places, parts)

    def _part(
        self,
        request: PredictRequest,
        box: Box,
        mix: Mixer,
        find: Finder,
        goes_on: Callable[[], bool],
        record: MixtureRun,
        note: Callable[[Floats], None],
    ) -> tuple[Box, MixtureOutcome]:
        """Predict what moves in a part of the frame, or all of that part where something leaves what moves.

        Motion is found on the whole part. Raises MotionLeaves where something leaves that, too.
        """
        part, scale, start = moving_parts.crop(request, box), request.options.scale, time.perf_counter()
        core = self._mixing.core(part.previous.pixels, part.current.pixels, scale)
        with self._threads.of(box.area * scale**2):
            motions = find(part.previous.pixels, part.current.pixels)
        record.motion_seconds += time.perf_counter() - start
        pixels = request.current.height * request.current.width
        whole = box._replace(top=0, left=0, bottom=box.bottom - box.top, right=box.right - box.left)
        for inner in (core, whole):
            place = inner.within(box)
            mixed, share = moving_parts.crop(request, place), moving_parts.priced_pixels(box, place) / pixels
            checked = partial(moving_parts.forward_flow, note, place, request, mixed)
            mixed_motions = motions.of(*inner.slices(scale))
            try:
                return place, self._roll(mixed, mix, Method.FLOW, goes_on, record, checked, share, mixed_motions)
            except moving_parts.MotionLeaves:
                if inner == whole:
                    raise
        raise AssertionError("the whole part is predicted, or something leaves it")

    def _roll(
        self,
        request: PredictRequest,
        mix: Mixer,
        method: Method,
        goes_on: Callable[[], bool],
        record: MixtureRun,
        note: Callable[[Floats], None] | None,
        share: float = 1.0,
        motions: Motions | None = None,
        lesson: Lesson | None = None,
    ) -> MixtureOutcome:
        """Predict one frame after the other; `share`: of a frame's pixels that these are.

        `note` is told the first one's flow HxWx2. `motions`: between both frames, where they were found before.
        `lesson`: of the pairs before; what follows from it is kept for the next.
        """
        previous, current, steps = request.previous, request.current, list[Step]()
        ahead = 1
        # The network, where it is a candidate, gains by every thread.
        pixels = current.height * current.width * request.options.scale**2
        mixed_pixels = pixels if method is Method.FLOW else math.inf
        while len(steps) < request.options.steps and (not steps or goes_on()):
            try:
                with self._threads.of(mixed_pixels):
                    mixture = mix(previous.pixels, current.pixels, ahead=ahead, motions=motions, lesson=lesson)
            except FloatingPointError as error:
                return Internal(str(error))
            record.frames += share * (request.options.work if request.options.times else 1)
            record.motion_seconds += mixture.report.motion_s
            if not mixture.is_finite:
                return Internal("the mixture's answer was not finite")
            if note is not None and not steps:
                note(mixture.flow)
            if mixture.lesson is not None and not steps:
                self._lessons.keep(request, mixture.lesson)
            steps.append(self._step(previous, current, mixture, method, request, ahead))
            if request.options.times:
                carry_to = partial(carried.by_mixture, request, steps[0], mixture.frame, mixture.flow)
                return carried.collect(steps[0], request, carry_to, goes_on)
            if method is Method.FLOW:  # every frame from the two that were sent, along the one motion between them
                motions, ahead = mixture.motions, ahead + 1
            else:
                previous, current = current, steps[-1].frame
        return tuple(steps)

    def _shift(self, request: PredictRequest, record: MixtureRun) -> tuple[Step, ...]:
        """Follow the motion before from the current frame on; nothing where it is not known any more."""
        start, options, current = time.perf_counter(), request.options, request.current
        flow = self.known.follow(request.previous, current)
        if flow is None:
            return ()
        times = options.times or tuple(float(step) for step in range(1, options.steps + 1))
        frame = np.asarray(motion.sample(current.pixels, flow), np.float32) / np.float32(255)
        frames = dict(carry.corrected(current.pixels, flow, frame, times))
        step = Step(current, (False,) * BLOCKS, 0, method=Method.FLOW, shares={BEFORE: 1.0})
        record.frames += options.work
        record.motion_seconds += time.perf_counter() - start
        return tuple(
            replace(step, frame=Frame(frames[place]), t=t if options.times else None) for place, t in enumerate(times)
        )

    def remember(self, request: PredictRequest, flow: Tensor) -> None:
        """Remember the motion 2xHxW in pixels that the network found to lead on from a request's current frame."""
        self.known.remember(request.current, flow.permute(1, 2, 0).float().contiguous().cpu().numpy())

    def _step(
        self,
        previous: Frame,
        current: Frame,
        mixture: Mixed | ReducedMixture,
        method: Method,
        request: PredictRequest,
        ahead: int,
    ) -> Step:
        report = mixture.report
        flow = confidence = None
        if request.options.maps:
            fields = motion.steady(previous.pixels, current.pixels, mixture.flow, ahead)
            flow = np.concatenate((fields.previous, fields.current), 2)
            confidence = fields.confidence
        return Step(
            frame=Frame(mixture.pixels),
            route=report.route or (False,) * BLOCKS,
            flops=2 * (report.macs + self._network_macs(current, report.route)),
            flow=flow,
            method=method,
            shares=report.shares,
            confidence=confidence,
        )

    def _network_macs(self, frame: Frame, route: tuple[bool, ...]) -> int:
        """Count the multiply-adds of the network's answer; none where it was no candidate."""
        if not route:
            return 0
        height, width = (max(1, round(side * self._mixing.network_scale)) for side in (frame.height, frame.width))
        return flops.count(height, width, route, self._network.config)
