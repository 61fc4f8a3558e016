"""Motion by OpenCV: dense inverse search (DIS) in three presets and two of ours, both ways, and Farneback's method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from model.motion.field import Floats, MotionField, Pixels, check, grey, project, sample, steady

Preset = Literal["ultrafast", "fast", "sparse", "lean", "medium"]


class _Search(NamedTuple):
    """Settings of DIS: a preset of OpenCV's, and what is set otherwise, by what follows "set" in the setters' names."""

    preset: int
    changes: Mapping[str, int] = {}


#: What each preset is, quickest first. Two are ours, medium but for what is named: "lean" leaves out the variational
#: refinement; "sparse" does, too, and has a patch every five pixels, not three, with six steps each, not 25. It costs
#: what fast does and is closer to medium, for it keeps the level of half size that fast leaves out.
PRESETS = {
    "ultrafast": _Search(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
    "fast": _Search(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "sparse": _Search(
        cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        {"VariationalRefinementIterations": 0, "PatchStride": 5, "GradientDescentIterations": 6},
    ),
    "lean": _Search(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM, {"VariationalRefinementIterations": 0}),
    "medium": _Search(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
}
#: OpenCV's DIS refuses frames whose shorter side is below this, its coarsest patch grid.
SHORTEST_SIDE = 16


@dataclass(frozen=True, slots=True)
class DenseInverseSearch:
    """DIS from the current frame to the previous, put on the next frame's grid in `rounds` (0: taken as it is)."""

    preset: Preset = "medium"
    rounds: int = 2

    @property
    def name(self) -> str:
        """Return e.g. "dis medium projected"."""
        return f"dis {self.preset}" + (" projected" if self.rounds else "")

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says; no motion for frames too small for DIS."""
        check(previous, current)
        return steady(previous, current, project(dis(grey(current), grey(previous), self.preset), self.rounds))


@dataclass(frozen=True, slots=True)
class Farneback:
    """Farneback's polynomial expansion, on frames reduced by `shrink`, put on the next frame's grid."""

    shrink: int = 1
    rounds: int = 2

    @property
    def name(self) -> str:
        """Return e.g. "farneback at 1/2"."""
        return "farneback" + (f" at 1/{self.shrink}" if self.shrink > 1 else "")

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says."""
        check(previous, current)
        return steady(previous, current, project(farneback(grey(current), grey(previous), self.shrink), self.rounds))


def dis(here: Pixels, there: Pixels, preset: Preset) -> Floats:
    """Find the flow HxWx2 from each pixel of `here` to where it is in `there`, luma HxW each. Zero if too small."""
    if min(here.shape) < SHORTEST_SIDE:
        return np.zeros((*here.shape, 2), np.float32)
    # A new one each time: it keeps its working memory, which two threads must not share. The package's stubs lack it.
    search = PRESETS[preset]
    estimator: Any = getattr(cv2, "DISOpticalFlow_create")(search.preset)  # noqa: B009
    for setting, value in search.changes.items():
        getattr(estimator, f"set{setting}")(value)
    return np.asarray(estimator.calc(here, there, None), np.float32)


def farneback(here: Pixels, there: Pixels, shrink: int) -> Floats:
    """Find the flow HxWx2 as `dis`, on frames reduced by `shrink`: five levels, a window of 15."""
    height, width = here.shape
    size = max(1, width // shrink), max(1, height // shrink)
    if shrink > 1:
        here, there = (np.asarray(cv2.resize(f, size, interpolation=cv2.INTER_AREA), np.uint8) for f in (here, there))
    none: Any = None
    flow = np.asarray(cv2.calcOpticalFlowFarneback(here, there, none, 0.5, 5, 15, 3, 7, 1.5, 0), np.float32)
    if shrink > 1:
        flow = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        flow *= np.array([width / size[0], height / size[1]], np.float32)
    return flow


def turned(onward: Floats, to_previous: Floats) -> Floats:
    """Answer the same question from a flow measured the other way: `onward` HxWx2, from the previous frame on its grid.

    `to_previous` HxWx2 says where on the previous frame each pixel of the predicted one was seen.
    """
    return np.asarray(-sample(onward, to_previous), np.float32)
