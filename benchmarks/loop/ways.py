"""Ways of showing a late picture to who drives by it, and one run with one of them, in whatever process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.loop.drive import Drive, Predictor, drive
from benchmarks.loop.world import Pixels, Road
from model.mixing import predictor, weights
from model.motion import carry, classical, field


def by_dis(previous: Pixels, current: Pixels, t: float) -> Pixels:
    """Move the current picture along t times DIS's flow: the twenty lines of OpenCV."""
    flow = classical.dis(field.grey(current), field.grey(previous), "fast")
    return np.asarray(field.sample(current, flow * np.float32(t)), np.uint8)


def by_mixture(path: Path) -> Predictor:
    """Return the service's prediction for a moment t by the head at `path`."""
    head, about = weights.load(path)

    def predict(previous: Pixels, current: Pixels, t: float) -> Pixels:
        mixture = predictor.mix(previous, current, None, head, about)
        ((_, picture),) = carry.corrected(current, mixture.flow, mixture.frame, [t])
        return picture

    return predict


@cache
def ways() -> dict[str, Predictor | None]:
    """Return the ways of showing a late picture, by name."""
    return {
        "as it came": None,
        "DIS": by_dis,
        "quality=fast": by_mixture(weights.LIVE),
        "flow": by_mixture(weights.DEFAULT),
    }


def run(way: str, delay_ms: int, seed: int, seconds: float) -> Drive:
    """Make one run, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return drive(Road.draw(seed), seed, delay_ms / 1000, ways()[way], seconds=seconds)
