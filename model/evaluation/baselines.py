"""What a user could do without a network: repeat the last frame, or carry optical flow on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Floats = NDArray[np.float32]
#: Two frames HxWx3 uint8 and a number of steps -> that many frames HxWx3 in 0..1.
Baseline = Callable[[Frame, Frame, int], list[Floats]]


def repeat(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """The newer frame again."""
    return [np.asarray(newer / 255.0, np.float32)] * steps


def dis(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Extrapolation along OpenCV's DIS flow (preset medium)."""
    # The package's stubs lack it.
    estimator: Any = getattr(cv2, "DISOpticalFlow_create")(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # noqa: B009
    return extrapolate(newer, estimator.calc(_grey(newer), _grey(older), None), steps)


def farneback(older: Frame, newer: Frame, steps: int) -> list[Floats]:
    """Extrapolation along OpenCV's Farneback flow (five levels, window 15)."""
    none: Any = None
    flow = cv2.calcOpticalFlowFarneback(_grey(newer), _grey(older), none, 0.5, 5, 15, 3, 7, 1.5, 0)
    return extrapolate(newer, np.asarray(flow, np.float32), steps)


def extrapolate(newer: Frame, flow: Floats, steps: int) -> list[Floats]:
    """Frames from carrying on `flow` HxWx2 (from the newer frame to the older, pixels) for one or more steps.

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
    found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def _grey(frame: Frame) -> NDArray[Any]:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


BASELINES: dict[str, Baseline] = {"repeat": repeat, "dis": dis, "farneback": farneback}
