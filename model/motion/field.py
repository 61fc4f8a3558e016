"""What a motion estimator answers, and the arithmetic that all of them share.

Frames are HxWx3 uint8 RGB; flows HxWx2 float32 in pixels (x, y). Knows no estimator.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: Difference of the two frames' warps, in grey levels, at which trust in a flow has fallen to 1/e.
TRUSTED_LEVELS = 16.0


class MotionField(NamedTuple):
    """Where each pixel of the next frame was: sample a frame at (x, y) + flow to predict the pixel (x, y)."""

    current: Floats  #: HxWx2: to the current frame
    previous: Floats  #: HxWx2: to the previous frame
    confidence: Floats  #: HxW in 0..1: 1 where both frames, so warped, agree


class MotionEstimator(Protocol):
    """Anything that tells the motion between two frames and carries it on to the next one."""

    @property
    def name(self) -> str:
        """Return the name that reports call it by."""
        ...

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate from two frames HxWx3 of one size. ValueError where they differ."""
        ...


class Places(NamedTuple):
    """Where to read a frame, in fixed point: 1/32 of a pixel, as OpenCV interpolates anyway."""

    whole: NDArray[np.int16]  #: HxWx2: x, y
    parts: NDArray[np.uint16]  #: HxW


def places(flow: Floats, every: int = 1) -> Places:
    """Compute the places (x, y) + flow HxWx2. Whoever reads twice along one flow saves a third of the second time.

    `every`: of rows 0, every, 2 every ... only.
    """
    points = flow[::every].copy()
    points[..., 0] += np.arange(flow.shape[1], dtype=np.float32)
    points[..., 1] += np.arange(0, flow.shape[0], every, dtype=np.float32)[:, None]
    none: Any = None
    whole, parts = cv2.convertMaps(points, none, cv2.CV_16SC2)
    return Places(np.asarray(whole, np.int16), np.asarray(parts, np.uint16))


def read(values: NDArray[Any], where: Places, cubic: bool = False, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Read `values` HxWx.. at places HxW, the border repeated; the type of `values`. Into `out` where there is one.

    Bilinear, or bicubic: that keeps what is finer than two pixels, and costs four times as much.
    """
    kind = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return cv2.remap(values, where.whole, where.parts, kind, out, cv2.BORDER_REPLICATE)


def sample(values: NDArray[Any], flow: Floats) -> NDArray[Any]:
    """Read `values` HxWx.. at (x, y) + flow HxWx2: bilinear, the border repeated; the type of `values`."""
    return read(values, places(flow))


def project(field: Floats, rounds: int = 2) -> Floats:
    """Move a flow HxWx2 from the current frame's grid (to the previous) onto the next frame's grid (to the current).

    Motion is taken to be steady: the pixel that arrives at x left x + u(x), where the flow was u(x). So u is
    the fixed point of u(x) = field(x + u(x)), approached in so many rounds; none leaves the flow as it is.
    """
    flow = field
    for _ in range(rounds):
        flow = sample(field, flow)
    return flow


def steady(previous: Pixels, current: Pixels, flow: Floats, ahead: int = 1) -> MotionField:
    """Complete a flow to the current frame on the grid of the frame `ahead` of it: the previous, and confidence.

    The next frame's is twice as far to the previous.
    """
    to_previous = flow * np.float32((ahead + 1) / ahead)
    return MotionField(flow, to_previous, agreement(sample(previous, to_previous), sample(current, flow)))


def agreement(first: Pixels, second: Pixels) -> Floats:
    """Compute trust HxW in 0..1 from how little two warped frames HxWx3 differ."""
    levels = cv2.transform(cv2.absdiff(first, second), np.full((1, 3), 1 / 3, np.float32)).astype(np.float32)
    trust: Floats = np.exp(levels.reshape(first.shape[:2]) * np.float32(-1 / TRUSTED_LEVELS))
    return trust


def grey(frame: Pixels) -> Pixels:
    """Reduce RGB HxWx3 to luma HxW."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def check(previous: Pixels, current: Pixels) -> None:
    """Raise ValueError unless both are HxWx3 uint8 of one size."""
    for frame in (previous, current):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != current.shape:
            raise ValueError(f"two frames HxWx3 uint8 of one size expected, not {previous.shape} and {current.shape}")
