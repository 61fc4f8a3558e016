"""What a user could do without a network: repeat the last frame, or carry optical flow on."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from model.motion import classical
from model.motion.field import grey, project, sample

Frame = NDArray[np.uint8]
Floats = NDArray[np.float32]
#: Two frames HxWx3 uint8 and a number of steps -> that many frames HxWx3 in 0..1.
Baseline = Callable[[Frame, Frame, int], list[Floats]]


def repeat(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Repeat the newer frame."""
    return [np.asarray(newer / 255.0, np.float32)] * steps


def along(preset: classical.Preset, projection: bool) -> Baseline:
    """Build a baseline along OpenCV's DIS flow, as found on the newer frame or put on the next frame's grid."""

    def predict(older: Frame, newer: Frame, steps: int) -> list[Floats]:
        flow = classical.dis(grey(newer), grey(older), preset)
        return _projected(newer, flow, steps) if projection else extrapolate(newer, flow, steps)

    return predict


def farneback(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Extrapolate along OpenCV's Farneback flow (five levels, window 15)."""
    return extrapolate(newer, classical.farneback(grey(newer), grey(older), 1), steps)


def dis_mean(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Average DIS medium as it is and projected: the best that fits in ten lines around OpenCV."""
    flow = classical.dis(grey(newer), grey(older), "medium")
    return _mean(extrapolate(newer, flow, steps), _projected(newer, flow, steps))


def dis_and_farneback(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Average DIS medium, projected, and Farneback."""
    return _mean(along("medium", True)(older, newer, steps), farneback(older, newer, steps))


def _projected(newer: Frame, flow: Floats, steps: int) -> list[Floats]:
    """Extrapolate as `extrapolate`, the flow put on each next frame's grid before it is followed."""
    image: Floats = np.asarray(newer / 255.0, np.float32)
    total, frames = np.zeros_like(flow), []
    for _ in range(steps):
        flow = project(flow)
        total = flow + sample(total, flow)
        frames.append(np.asarray(sample(image, total), np.float32))
    return frames


def _mean(first: list[Floats], second: list[Floats]) -> list[Floats]:
    return [(a + b) * np.float32(0.5) for a, b in zip(first, second, strict=True)]


def extrapolate(newer: Frame, flow: Floats, steps: int) -> list[Floats]:
    """Predict frames by carrying on `flow` HxWx2 (from the newer frame to the older, pixels) for one or more steps.

    Every step follows the field from where the last one arrived, and samples the newer frame once: repeated
    resampling would blur.
    """
    height, width = flow.shape[:2]
    x: Floats
    y: Floats
    y, x = np.indices((height, width), np.float32)
    image: Floats = np.asarray(newer / 255.0, np.float32)
    frames = []
    for _ in range(steps):
        here = _at(flow, x, y)
        x, y = x + here[..., 0], y + here[..., 1]
        frames.append(_at(image, x, y))
    return frames


def _at(values: Floats, x: Floats, y: Floats) -> Floats:
    samples = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(samples, np.float32)


BASELINES: dict[str, Baseline] = {
    "repeat": repeat,
    "dis": along("medium", False),
    "dis fast": along("fast", False),
    "dis ultrafast": along("ultrafast", False),
    "dis projected": along("medium", True),
    "dis fast projected": along("fast", True),
    "dis ultrafast projected": along("ultrafast", True),
    "dis mean": dis_mean,
    "dis + farneback": dis_and_farneback,
    "farneback": farneback,
}
