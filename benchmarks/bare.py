"""The bare executor: uint8 pairs in, uint8 frames out, nothing around it: what a server can at most reach.

Also a process that runs it on demand (`python -m benchmarks.bare`), so that it can have a core of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import cores
from model import checkpoint
from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.inference import pixels
from model.inference.cpu import runner as cpu_runner
from model.inference.predict import FramePairs
from service.large_pages import use_large_pages

Picture = NDArray[np.uint8]
FULL, AUTO = "full", "auto"


class Executor:
    """A checkpoint, ready to run on as many threads as this process has cores."""

    def __init__(self, weights: str | Path, threads: int = 0) -> None:
        torch.set_num_threads(threads or cores.count())
        self.network: DMVFN = checkpoint.load(weights).eval().requires_grad_(False)
        self._bgr = checkpoint.metadata(self.network).colour_order == "BGR"
        cpu_runner.of(self.network)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Picture], route: str = AUTO) -> list[Picture]:
        """The next frame HxWx3 of every pair 2xHxWx3 (one size, multiples of 16); `route`: auto, full or nine bits."""
        sides = [pair[0] for pair in pictures], [pair[1] for pair in pictures]
        previous, current = (pixels.to_frames(side, torch.device("cpu"), bgr=self._bgr) for side in sides)
        pairs = FramePairs(self.network, previous, current)
        predicted = pairs.predict(self._routes(pairs, len(pictures), route))
        return [pixels.to_pictures(frame, bgr=self._bgr).numpy() for frame in predicted.frame]

    def _routes(self, pairs: FramePairs, count: int, route: str) -> torch.Tensor:
        if route == AUTO:
            return routing.auto(pairs.probabilities())
        bits = "1" * self.network.config.blocks if route == FULL else route
        return routing.explicit(bits).expand(count, -1)


@dataclass(frozen=True, slots=True)
class Spell:
    """What it did in a while: frames, wall seconds, processor seconds."""

    frames: int
    seconds: float
    cpu: float


def run(executor: Executor, pairs: Sequence[Picture], route: str, seconds: float) -> Spell:
    """The same batch again and again."""
    frames, cpu, begun = 0, time.process_time(), time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        frames += len(executor(pairs, route))
    return Spell(frames, took, time.process_time() - cpu)


@dataclass(slots=True)
class Process:
    """The executor in a process of its own."""

    _child: subprocess.Popen[str]

    def run(self, pairs: Path, route: str, seconds: float) -> Spell:
        """Run the batch in `pairs` (.npy, Bx2xHxWx3) for so long."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"pairs": str(pairs), "route": route, "seconds": seconds}) + "\n")
        self._child.stdin.flush()
        return Spell(**json.loads(self._child.stdout.readline()))


@contextlib.contextmanager
def process(weights: Path, core: int | None) -> Iterator[Process]:
    """One that runs on `core` while this lasts."""
    with cores.only(core):
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", str(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    try:
        yield Process(child)
    finally:
        child.communicate()  # the end of its input ends it


def main() -> None:
    """Answer one line of JSON for every line of JSON."""
    executor = Executor(sys.argv[1])
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        pairs = list(np.load(asked["pairs"]))
        executor(pairs, asked["route"])  # memory for this size is taken before the clock runs
        use_large_pages()  # as a service has it that has started (decision 110)
        print(json.dumps(dataclasses.asdict(run(executor, pairs, asked["route"], asked["seconds"]))), flush=True)


if __name__ == "__main__":
    main()
