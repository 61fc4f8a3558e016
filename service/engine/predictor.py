"""Runs the network on one device, and mixtures of motions beside it: uint8 frames in, uint8 frames out.

Synchronous, called from one thread. Knows batches of one bucket; nothing of queues, deadlines or transports.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import checkpoint, flops
from model.dmvfn.network import DMVFN
from model.inference import pixels
from model.inference import predict as inference
from model.inference.predict import FramePairs
from service.core.bucket import Bucket
from service.core.errors import Internal, ServiceError
from service.core.interfaces import ServedModel
from service.core.types import Frame, Method, PredictRequest, Step
from service.engine import carried, rollout, warm_up
from service.engine.device import ChosenRoute, DeviceWork, Flops, RunOutput, bucket_of
from service.engine.mixture import MixtureRun, Mixtures
from service.engine.scheduling.cost_model import Load, MeasuredRun
from service.engine.scheduling.mixture_costs import mixture_load
from service.engine.scheduling.pricing import needs_routing
from service.engine.versions.weight_files import LoadedWeights, WeightFiles
from service.settings import Settings

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor:
    """One device and the network on it. Implements `service.engine.device.Device`."""

    def __init__(
        self,
        network: DMVFN,
        *,
        device: str = "auto",
        dtype: str = "float32",
        threads: int = 0,
        sha256: str = "",
        largest_batch: int = 8,
        rows_per_call: int = 0,
        mixtures: Mixtures | None = None,
        default_method: Method | None = None,
    ) -> None:
        """Take a network. `threads` 0: one per core. `largest_batch`: what warm-up tries besides 1.

        `mixtures`: what methods besides the network's run by; None: there are none. `default_method`: what predicts
        where a request leaves that open; None: the weights' own. CheckpointError where it cannot be done here.

        `rows_per_call` is how many samples go through the network together. 0: all of a batch on a GPU; on a CPU
        one, where more are no faster (slower, once they leave the cache) and round differently by their number,
        so that there a request's frame is the same bit for bit in any batch.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._dtype = DTYPES[dtype]
        self._network = network.eval().requires_grad_(False).to(self._device)
        self._about = checkpoint.metadata(network)
        self._bgr = self._about.colour_order == "BGR"
        self._largest_batch = largest_batch
        self.rows = rows_per_call or (1 if self._device.type == "cpu" else sys.maxsize)
        self._flops: dict[Bucket, Flops] = {}
        self._routing_seconds = 0.0
        if self._device.type == "cpu":
            torch.set_num_threads(threads or cores())
        self.info = ServedModel(
            version=self._about.version,
            device=str(self._device),
            dtype=dtype,
            parameters=sum(p.numel() for p in network.parameters()),
            colour_order=self._about.colour_order,
            training_data=self._about.training_data,
            sha256=sha256,
            scores={**self._about.scores, **(mixtures.scores if mixtures is not None else {})},
            methods=(Method.DMVFN, *(mixtures.methods if mixtures is not None else ())),
            default_method=default_method or self._own_method(mixtures),
            head=mixtures.version if mixtures is not None else "",
        )
        self._mixtures = mixtures
        if self.info.default_method not in self.info.methods:
            raise checkpoint.CheckpointError(
                f"the default method is {self.info.default_method}, which the mixing head cannot do"
            )

    @classmethod
    def of(cls, settings: Settings) -> Predictor:
        """Build a predictor from settings. Raises CheckpointError if the weights cannot be read."""
        return cls.by(WeightFiles(settings).first(settings.versions), settings)

    @classmethod
    def by(cls, weights: LoadedWeights, settings: Settings) -> Predictor:
        """Build a predictor by weights that were read. Raises CheckpointError if they are of no use here."""
        return cls(
            weights.network,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            sha256=weights.sha256,
            largest_batch=settings.max_batch,
            mixtures=Mixtures.load(weights.network, settings.head),
            default_method=None if settings.default_method == "auto" else Method(settings.default_method),
        )

    def _own_method(self, mixtures: Mixtures | None) -> Method:
        """Return the weights' method for this device; without mixtures, by which alone it differs there, the other."""
        return Method(self._about.method if mixtures is None else self._about.default_on(self._device.type))

    @property
    def weights_of_blocks(self) -> tuple[float, ...]:
        """Return the multiply-adds per pixel of each block."""
        config = self._network.config
        return tuple(flops.block(256, 256, i, config) / 256**2 for i in range(config.blocks))

    @property
    def weight_of_routing(self) -> float:
        """Return the multiply-adds per pixel of the routing module."""
        return flops.routing(256, 256, self._network.config) / 256**2

    def flops(self, bucket: Bucket) -> Flops:
        """Count the FLOPs of a frame at the size the network runs at: 2 per multiply-add."""
        if bucket not in self._flops:
            height, width = round(bucket.height * bucket.scale), round(bucket.width * bucket.scale)
            config = self._network.config
            blocks = tuple(2 * flops.block(height, width, i, config) for i in range(config.blocks))
            if len(self._flops) >= 1024:
                self._flops.clear()
            self._flops[bucket] = Flops(2 * flops.routing(height, width, config), blocks)
        return self._flops[bucket]

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> Iterator[MeasuredRun]:
        """Time what each size can be asked for, each after runs that are not timed; one measurement at a time."""
        # The second call on a GPU records what it launches (`model.inference.cuda.graphs`); the third is as fast as
        # all later ones.
        warm_runs = 1 if self._device.type == "cpu" else 2
        several = min(4, self._largest_batch, self.rows)
        if sizes and self._mixtures is not None:
            with self._running():
                self._mixtures.choose_threads()
        return warm_up.measure(self, sizes, several, warm_runs)

    def routes(self, requests: Sequence[PredictRequest]) -> list[ChosenRoute]:
        """Choose the first routes of requests of one bucket."""
        choices: list[ChosenRoute] = []
        with self._running():
            for call in self._calls(requests):
                previous, current = self._tensors(call)
                members = {row: _member(DeviceWork(request)) for row, request in enumerate(call)}
                pairs = FramePairs(self._network, previous, current, members[0].options.scale)
                choices += rollout.choose(pairs, members, 0, self._network.config.blocks).values()
        return choices

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        """Predict the frames of every work; one whose values are not finite gets Internal, its neighbours their frames.

        A work that `keep` did not want any more comes back with the steps it got so far.
        """
        method = self.info.method_for(works[0].request.options)
        bucket = bucket_of(works[0].request, method)
        own_works = [work for work in works if not (work.live or work.shifted)]
        by_network, by_method = (own_works, []) if method is Method.DMVFN else ([], own_works)
        self._routing_seconds, tally = 0.0, rollout.Tally()
        with self._running():
            outcomes = self._run_network(by_network, keep, tally)
            own = self._run_mixture(by_method, method, keep)
            live = self._run_mixture([work for work in works if work.live], method, keep)
            by_before = self._run_mixture([work for work in works if work.shifted], method, keep)
        outcomes.update({**own.outcomes, **live.outcomes, **by_before.outcomes})
        by_blocks = Load.of(bucket, tally.routes, tally.passes, tally.routings, tally.carried)
        live_run = MeasuredRun(bucket, mixture_load(bucket, live.frames), live.seconds, live=True)
        shifted_run = MeasuredRun(bucket, mixture_load(bucket, by_before.frames), by_before.seconds, shifted=True)
        return RunOutput(
            outcomes=tuple(outcomes.get(work, ()) for work in works),
            load=by_blocks if method is Method.DMVFN else mixture_load(bucket, own.frames),
            route_seconds=self._routing_seconds,
            empty_routes=tally.empties,
            motion_seconds=sum(record.motion_seconds for record in (own, live, by_before)),
            mixing_seconds=sum(record.mixing_seconds for record in (own, live, by_before)),
            live=live_run if live.frames else None,
            shifted=shifted_run if by_before.frames else None,
        )

    def _run_network(
        self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool], tally: rollout.Tally
    ) -> dict[DeviceWork, tuple[Step, ...] | ServiceError]:
        outcomes: dict[DeviceWork, tuple[Step, ...] | ServiceError] = {}
        for work in works:
            if cut := carried.repeats(work.request, Method.DMVFN):
                outcomes[work] = cut
        for number, call in enumerate(self._calls([work for work in works if work not in outcomes])):
            active = [work for work in call if number == 0 or keep(work)]
            if active:
                outcomes.update(zip(active, self._run_call(active, keep, tally), strict=True))
        return outcomes

    def _run_mixture(
        self, works: Sequence[DeviceWork], method: Method, keep: Callable[[DeviceWork], bool]
    ) -> MixtureRun:
        if not works or self._mixtures is None:
            return MixtureRun()
        return self._mixtures.run(works, method, keep)

    def _run_call(
        self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool], tally: rollout.Tally
    ) -> list[tuple[Step, ...] | ServiceError]:
        requests = [work.request for work in works]
        cost = self.flops(bucket_of(requests[0]))
        steps: list[list[Step]] = [[] for _ in works]
        errors: dict[int, ServiceError] = {}
        previous, current = self._tensors(requests)
        members = [_member(work) for work in works]
        rollouts = rollout.roll(self._network, previous, current, members, lambda i: keep(works[i]), self._time_routing)
        for passes, predictions in enumerate(rollouts, start=1):
            tally.passes = max(tally.passes, passes)
            for output in predictions:
                tally.add(output)
                if not output.finite:
                    errors[output.member] = Internal("the network's answer was not finite")
            finite = [output for output in predictions if output.finite]
            pictures = self._pictures([output.frame for output in finite])
            for output, picture in zip(finite, pictures, strict=True):
                steps[output.member].append(self._step(output, picture, requests[output.member], cost))
                if requests[output.member].options.allows_live and self._mixtures is not None:
                    self._mixtures.remember(requests[output.member], output.flow[2:])
                if requests[output.member].options.times:
                    pair = previous[output.member], current[output.member]
                    steps[output.member] = self._carry(
                        steps[output.member][0], output, works[output.member], pair, keep
                    )
                    tally.carried += [output.route] * (len(steps[output.member]) - 1)
        return [errors.get(i) or tuple(frames) for i, frames in enumerate(steps)]

    def _carry(
        self,
        first: Step,
        output: rollout.StepOutput,
        work: DeviceWork,
        pair: tuple[Tensor, Tensor],
        keep: Callable[[DeviceWork], bool],
    ) -> list[Step]:
        carry_to = partial(carried.by_network, work.request, output, pair, bgr=self._bgr)
        return list(carried.collect(first, work.request, carry_to, lambda: keep(work)))

    def knows_motion(self, request: PredictRequest) -> bool:
        """Tell whether the motion before a request's pair is known."""
        return self._mixtures is not None and self._mixtures.known.knows(request.previous)

    def free(self) -> None:
        """Give cached memory back."""
        inference.release(self._network)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def memory(self) -> tuple[int, int] | None:
        """Return used and total bytes of a GPU; None on the CPU, whose memory the process metrics show."""
        if self._device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free, total

    def _calls(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Split items into what goes through the network together."""
        for start in range(0, len(items), self.rows):
            yield items[start : start + self.rows]

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            if self._dtype is not torch.float32:
                # Convolutions in the smaller type; flow, warps and sums stay float32 because the tensors are.
                stack.enter_context(torch.autocast(self._device.type, self._dtype))
            yield

    def _time_routing(self, choose: Callable[[], T]) -> T:
        # The routes come back to the host, which waits for the device: this is the device's time too.
        start = time.perf_counter()
        result = choose()
        self._routing_seconds += time.perf_counter() - start
        return result

    def _tensors(self, requests: Sequence[PredictRequest]) -> tuple[Tensor, Tensor]:
        """Stack previous and current frames: Bx3xHxW float32 in 0..1, padded with their edges, in network colours."""
        bucket = bucket_of(requests[0])
        pictures = [r.previous for r in requests] + [r.current for r in requests]
        arrays = [_pad(picture.pixels, bucket) for picture in pictures]
        frames = pixels.to_frames(arrays, self._device, bgr=self._bgr)
        return frames[: len(requests)], frames[len(requests) :]

    def _pictures(self, frames: Sequence[Tensor]) -> list[NDArray[np.uint8]]:
        """Copy each frame here, as HxWx3 RGB. Those of one size come together: every crossing waits for the device."""
        if len(frames) > 1 and len({frame.shape for frame in frames}) == 1:
            together = pixels.to_pictures(torch.stack(list(frames)), bgr=self._bgr).cpu().numpy()
            # Copies: who keeps one frame must not keep all.
            return [picture.copy() for picture in together]
        return [pixels.to_pictures(frame, bgr=self._bgr).cpu().numpy() for frame in frames]

    def _step(
        self, output: rollout.StepOutput, picture: NDArray[np.uint8], request: PredictRequest, cost: Flops
    ) -> Step:
        maps = request.options.maps
        return Step(
            frame=Frame(picture),
            route=output.route,
            flops=sum(f for f, runs in zip(cost.blocks, output.route, strict=True) if runs)
            + (cost.routing if needs_routing(request.options) else 0),
            flow=output.flow.permute(1, 2, 0).float().contiguous().cpu().numpy() if maps else None,
            mask=output.mask.float().contiguous().cpu().numpy() if maps else None,
        )


def cores() -> int:
    """Count the cores that this process may use: its affinity, and the share its container was given."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return max(1, count)


def _member(work: DeviceWork) -> rollout.Member:
    frame = work.request.current
    return rollout.Member(frame.height, frame.width, work.request.options, work.route, work.most_blocks)


def _pad(picture: NDArray[np.uint8], bucket: Bucket) -> NDArray[np.uint8]:
    bottom, right = bucket.height - picture.shape[0], bucket.width - picture.shape[1]
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else picture
