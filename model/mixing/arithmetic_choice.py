"""In which arithmetic a head's convolutions are quickest on this processor: measured once, and kept.

What has instructions for bfloat16 is not always quicker by them: one processor does by them half of what it does in
float32, another twice that. The choice lies beside the compiled loops, one file for each processor that shares them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.inference.cpu import compiler, precision
from model.inference.cpu.packing import WorkingMemory
from model.inference.cpu.precision import Arithmetic
from model.mixing import head_kernels, weights
from model.mixing.prepared import PreparedHead

#: How many times as quick as float32 another arithmetic must be: its answers are a little further from the truth.
LEAST_GAIN = 1.1
#: Turns that each is timed, and the frame's height and width.
TURNS, SIZE = 5, (128, 224)

#: Seconds that a head takes by one thread in each arithmetic.
Measure = Callable[[Sequence[Arithmetic]], Mapping[Arithmetic, float]]


@functools.cache
def quickest() -> Arithmetic:
    """Return the choice for this processor; measure (a tenth of a second) where none is kept.

    Takes one of the threads that share loops: for the thread that runs them, between two predictions.
    """
    return kept(_folder(), precision.usable(), measured)


def kept(folder: Path | None, kinds: Sequence[Arithmetic], measure: Measure) -> Arithmetic:
    """Return the choice among `kinds` that `folder` has, or make it by `measure` and write it there, if it can be."""
    if len(kinds) == 1:
        return kinds[0]
    file = None if folder is None else folder / f"head-arithmetic.{_digest(kinds)}.txt"
    names = {kind.value: kind for kind in kinds}
    if file is not None and file.is_file() and (choice := names.get(file.read_text().strip())):
        return choice
    choice = better(measure(kinds))
    if file is not None:
        _write(file, choice.value)
    return choice


def better(seconds: Mapping[Arithmetic, float]) -> Arithmetic:
    """Return the quickest of these; float32 unless another is so by LEAST_GAIN."""
    choice = min(seconds, key=seconds.__getitem__)
    return choice if seconds[choice] * LEAST_GAIN < seconds[Arithmetic.FLOAT32] else Arithmetic.FLOAT32


def measured(kinds: Sequence[Arithmetic], clock: Callable[[], float] = time.perf_counter) -> dict[Arithmetic, float]:
    """Time the live head on a small frame by one thread, in turn: each one's fastest of TURNS, in seconds."""
    head, _ = weights.load(weights.LIVE)
    noise = np.random.default_rng(0)
    frames = noise.integers(0, 256, (len(head.config.candidates), *SIZE, 3), np.uint8)
    flow = noise.normal(0, 5, (*SIZE, 2)).astype(np.float32)
    heads = {kind: PreparedHead(head, WorkingMemory(), kind) for kind in kinds}
    seconds = dict.fromkeys(kinds, float("inf"))
    try:
        compiler.use_threads(1)
        for _ in range(TURNS + 1):
            for kind, prepared in heads.items():
                start = clock()
                prepared.logits(frames, flow)
                seconds[kind] = min(seconds[kind], clock() - start)
    finally:
        compiler.use_threads(torch.get_num_threads())
    return seconds


def _folder() -> Path | None:
    """Return where numba keeps compiled loops; None where it may not write."""
    loop: Any = head_kernels.share
    path = loop.stats.cache_path
    return Path(path) if path else None


def _digest(kinds: Sequence[Arithmetic]) -> str:
    """Name what the choice depends on beside the loops' sources: this processor, and what they are compiled for."""
    binding: Any = import_module("llvmlite.binding")
    has = sorted(name for name, there in binding.get_host_cpu_features().items() if there)
    compiled_for = os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")
    facts = repr((binding.get_host_cpu_name(), has, compiled_for, [kind.value for kind in kinds]))
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _write(file: Path, text: str) -> None:
    """Write the file at once or not at all: several processes may start together."""
    new = file.with_suffix(f".{os.getpid()}")
    try:
        new.write_text(text + "\n")
        new.replace(file)
    except OSError:
        # The folder cannot be written any more: the next start measures again.
        new.unlink(missing_ok=True)
