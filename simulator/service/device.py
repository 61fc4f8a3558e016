"""A made-up device: takes virtual seconds, answers with the sum of its frames, and breaks when told to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from service.core.bucket import Bucket
from service.core.interfaces import ServedModel
from service.core.types import BLOCKS, Frame, PredictRequest, Route, Step
from service.engine.device import ChosenRoute, DeviceWork, Flops, RunOutput, bucket_of
from service.engine.scheduling.cost_model import Load, MeasuredRun

ALL: Route = (True,) * BLOCKS
MODEL = ServedModel("simulated-1", "cpu", "float32", 1, "rgb", "none", "0" * 64)
STICKY = "CUDA error: an illegal memory access was encountered"
#: Seconds of a pass and of a frame, whatever its size.
PASS_S, FRAME_S = 0.004, 0.006


@dataclass
class Harm:
    """What is wrong with a device. `cold_s`: seconds more at the first run of a size; `failing`: runs out of memory."""

    cold_s: float = 0.0
    out_of_memory_runs: int = 0
    is_broken: bool = False
    slowness: float = 1.0  #: times as long as PASS_S and FRAME_S say
    slow_s: float = 0.0  #: seconds more of each run


def answer_of(previous: Frame, current: Frame) -> Frame:
    """Return the answer to a pair: it tells its question."""
    return Frame(previous.pixels + current.pixels)


class MadeUpDevice:
    """Implements `service.engine.device.Device`. `sleep` lets seconds of `clock` pass in the thread that calls."""

    def __init__(
        self, sleep: Callable[[float], None], clock: Callable[[], float], rng: random.Random, rows: int = 4
    ) -> None:
        self._sleep, self._clock, self._rng = sleep, clock, rng
        self.rows = rows
        self.harm = Harm()
        self.runs: list[tuple[float, tuple[str, ...]]] = []  #: when each began, and the ids of its requests
        self._sizes: set[Bucket] = set()

    info = MODEL
    weights_of_blocks = (1.0,) * BLOCKS
    weight_of_routing = 1.0

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> Iterable[MeasuredRun]:
        """Measure one and four rows of each size."""
        for height, width in sizes:
            bucket = Bucket.of(height, width)
            self._sizes.add(bucket)
            for rows in (1, 4):
                yield MeasuredRun(
                    bucket, Load.of(bucket, [ALL] * rows, 1, 0), self.harm.slowness * (PASS_S + FRAME_S * rows)
                )

    def flops(self, bucket: Bucket) -> Flops:
        """Return round numbers."""
        return Flops(1000, (1000,) * BLOCKS)

    def routes(self, requests: Sequence[PredictRequest]) -> list[ChosenRoute]:
        """Choose every block."""
        self._obey()
        self._sleep(0.0005 * len(requests))
        return [ChosenRoute(ALL, (0.9,) * BLOCKS) for _ in requests]

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        """Let the time of a batch pass, and add each pair up."""
        self._obey()
        bucket = bucket_of(works[0].request)
        self.runs.append((self._clock(), tuple(work.request.id for work in works)))
        seconds = self.harm.slowness * (PASS_S + FRAME_S * len(works)) * self._rng.uniform(0.9, 1.1)
        seconds += self.harm.slow_s
        if bucket not in self._sizes:
            self._sizes.add(bucket)
            seconds += self.harm.cold_s
        self._sleep(seconds)
        self._obey()
        outcomes = []
        for work in works:
            step = Step(answer_of(work.request.previous, work.request.current), ALL, 1000 * (BLOCKS + 1))
            outcomes.append((step,) * work.request.options.frames if keep(work) else ())
        load = Load.of(bucket, [ALL] * len(works), 1, 0)
        return RunOutput(tuple(outcomes), load)

    def knows_motion(self, request: PredictRequest) -> bool:
        """Know none."""
        return False

    def free(self) -> None:
        """Free nothing."""

    def memory(self) -> tuple[int, int] | None:
        """Tell nothing."""
        return None

    def _obey(self) -> None:
        if self.harm.is_broken:
            raise RuntimeError(STICKY)
        if self.harm.out_of_memory_runs > 0:
            self.harm.out_of_memory_runs -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def picture(number: int, index: int, height: int, width: int) -> Frame:
    """Return frame `index` of job `number`: no two have the same sum."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels.reshape(-1)[:8] = list((number * 8 + index).to_bytes(8, "big"))
    pixels[-1, -1] = index + 1
    return Frame(pixels)
