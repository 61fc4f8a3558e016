"""How much processor time each method takes for one frame, on this machine: the same two frames, reduced to one size.

Processor time of one thread, because neighbours on the machine lengthen the clock's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import cv2
import numpy as np
import torch

from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.evaluation.baselines import Baseline, Frame
from model.evaluation.rollout import tensor
from model.inference.predict import FramePairs

HEIGHT, WIDTH = 256, 448
#: The least of so many tries: others use the machine, too.
TRIES = 15


def milliseconds(network: DMVFN, methods: Mapping[str, Baseline], previous: Frame, current: Frame) -> dict[str, float]:
    """Time every method, and the network as `auto` and at half size, in ms for one frame of HEIGHT x WIDTH.

    Methods take turns, so that a busy minute slows all of them. Uses one thread, and restores how many there were.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        return _in_turns(network, methods, previous, current)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _in_turns(network: DMVFN, methods: Mapping[str, Baseline], previous: Frame, current: Frame) -> dict[str, float]:
    pair = [
        np.asarray(cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8) for f in (previous, current)
    ]

    def along(scale: float) -> None:
        first, second = (tensor(frame, torch.device("cpu")) for frame in pair)
        pairs = FramePairs(network, first, second, scale)
        pairs.predict(routing.auto(pairs.probabilities()))

    best: dict[str, float] = {}
    for _ in range(TRIES):
        for name in (*methods, "auto", "auto at 1/2"):
            began = time.process_time()
            if name in methods:
                methods[name](pair[0], pair[1], 1)
            else:
                along(0.5 if name.endswith("1/2") else 1.0)
            milliseconds = (time.process_time() - began) * 1000
            best[name] = min(best.get(name, milliseconds), milliseconds)
    return best
