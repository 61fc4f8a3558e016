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


def repeat(previous: Frame, current: Frame, steps: int) -> list[Floats]:
    """Repeat the current frame."""
    return [np.asarray(current / 255.0, np.float32)] * steps


def along(preset: classical.Preset, projection: bool) -> Baseline:
    """Build a baseline along OpenCV's DIS flow, as found on the current frame or put on the next frame's grid."""

    def predict(previous: Frame, current: Frame, steps: int) -> list[Floats]:
        flow = classical.dis(grey(current), grey(previous), preset)
        return _projected(current, flow, steps) if projection else extrapolate(current, flow, steps)

    return predict


def farneback(previous: Frame, current: Frame, steps: int) -> list[Floats]:
    """Extrapolate along OpenCV's Farneback flow (five levels, window 15)."""
    return extrapolate(current, classical.farneback(grey(current), grey(previous), 1), steps)


def dis_mean(previous: Frame, current: Frame, steps: int) -> list[Floats]:
    """Average DIS medium as it is and projected: the best that fits in ten lines around OpenCV."""
    flow = classical.dis(grey(current), grey(previous), "medium")
    return _mean(extrapolate(current, flow, steps), _projected(current, flow, steps))


def dis_and_farneback(previous: Frame, current: Frame, steps: int) -> list[Floats]:
    """Average DIS medium, projected, and Farneback."""
    return _mean(along("medium", True)(previous, current, steps), farneback(previous, current, steps))


def _projected(current: Frame, flow: Floats, steps: int) -> list[Floats]:
    """Extrapolate as `extrapolate`, the flow put on each next frame's grid before it is followed."""
    image: Floats = np.asarray(current / 255.0, np.float32)
    total, frames = np.zeros_like(flow), []
    for _ in range(steps):
        flow = project(flow)
        total = flow + sample(total, flow)
        frames.append(np.asarray(sample(image, total), np.float32))
    return frames


def _mean(first: list[Floats], second: list[Floats]) -> list[Floats]:
    return [(a + b) * np.float32(0.5) for a, b in zip(first, second, strict=True)]


def extrapolate(current: Frame, flow: Floats, steps: int) -> list[Floats]:
    """Predict frames by carrying on `flow` HxWx2 (from the current frame to the previous, pixels), one or more steps.

    Every step follows the field from where the last one arrived, and samples the current frame once: repeated
    resampling would blur.
    """
    height, width = flow.shape[:2]
    x: Floats
    y: Floats
    y, x = np.indices((height, width), np.float32)
    image: Floats = np.asarray(current / 255.0, np.float32)
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
    "dis sparse projected": along("sparse", True),
    "dis mean": dis_mean,
    "dis + farneback": dis_and_farneback,
    "farneback": farneback,
}
