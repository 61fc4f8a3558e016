"""The frames a mixture is made of: the current (or previous) frame warped by several cheap motions, still, or softened.

Frames are HxWx3 uint8 RGB. Knows neither weights nor the network. Needs numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from model.mixing import warping
from model.motion import classical
from model.motion.field import Floats, Pixels, grey, places, project, read, sample

#: Sigma in pixels of the two softened candidates: that of the second comes to 3 with what halving blurs.
SOFT, BLURRED_AT_HALF = 1.0, 1.4
#: Luma as fine as this (`fineness`) is softened by so many pixels (sigma) before motion is sought in it. DIS begins at
#: half size, where detail finer than two pixels turns into patterns that change with every odd pixel of motion; in
#: coarser frames softening takes as much as it gives (decision 91).
TOO_FINE, ANTI_ALIAS = 0.42, 0.7
#: Those that `warping` makes in one pass.
WARPED_TOGETHER = ("projected", "carried")
#: One row of so many tells how soft warps are.
MEASURED_ROWS = 4


class Candidates(NamedTuple):
    """What can be mixed, for one pair of frames."""

    frames: Pixels  #: KxHxWx3, in the order of the names asked for
    flow: Floats  #: HxWx2: the projected flow, to the current frame


class Motions(NamedTuple):
    """What was found between two frames, once for however many frames are predicted from them: flows HxWx2 each."""

    main: Floats  #: from the current frame to the previous
    fast: Floats | None  #: the same by DIS ultrafast; None where no candidate asks for it, as those below
    onward: Floats | None  #: from the previous frame to the current
    farneback: Floats | None  #: as `main`
    detail: float = 0.0  #: as `true_detail`; 0 where nobody asked for it

    def of(self, rows: slice, columns: slice) -> Motions:
        """Return the motions of a part of the frames."""

        def part(flow: Floats | None) -> Floats | None:
            return None if flow is None else np.ascontiguousarray(flow[rows, columns])

        main = np.ascontiguousarray(self.main[rows, columns])
        return Motions(main, part(self.fast), part(self.onward), part(self.farneback), self.detail)


def find(
    previous: Pixels, current: Pixels, names: Sequence[str], preset: str = "medium", detailed: bool = False
) -> Motions:
    """Find the motions that the candidates of `names` follow. `preset`: DIS's, for the main one.

    `detailed`: whether to measure `true_detail` along that one.
    """
    there, here = _searched(previous, current)
    main = classical.dis(here, there, preset)  # type: ignore[arg-type]  # checked by `dis`' own table
    return Motions(
        main,
        classical.dis(here, there, "ultrafast") if "fast" in names else None,
        classical.dis(there, here, "sparse") if "turned" in names else None,
        classical.farneback(here, there, 2) if "farneback" in names else None,
        true_detail(previous, current, main) if detailed else 0.0,
    )


def fineness(luma: Pixels) -> float:
    """Measure how fine the detail of luma HxW is: how much neighbours differ against the next but one, squared.

    A quarter where all is smooth, a half for edges as sharp as pixels, 1 for white noise; 0 for a flat picture.
    ValueError below three pixels a side.
    """
    if min(luma.shape) < 3:
        raise ValueError(f"three pixels a side expected, not {luma.shape}")

    def energy(step: int) -> float:
        across = cv2.norm(luma[:, step:], luma[:, :-step], cv2.NORM_L2SQR)
        return across + cv2.norm(luma[step:], luma[:-step], cv2.NORM_L2SQR)

    return energy(1) / max(energy(2), 1.0)


def true_detail(previous: Pixels, current: Pixels, motion: Floats) -> float:
    """Measure by how much warped frames are too soft, on two frames HxWx3 that are known: 0 to 1.

    The previous frame is warped along `motion` HxWx2 onto the current one. The answer is how much of the difference
    from its softened copy, added to it, comes closest to the current frame (least squares): much where frames are
    sharp, nothing where their finest part is noise. On one row of `MEASURED_ROWS`, softened along rows only, for a
    quarter of the time.
    """
    energy, missing = warping.missing_detail(previous, current, motion, MEASURED_ROWS, SOFT)
    return min(max(missing / energy, 0.0), 1.0) if energy > 0 else 0.0


def build(
    previous: Pixels,
    current: Pixels,
    names: Sequence[str],
    network: Pixels | None = None,
    preset: str = "medium",
    ahead: int = 1,
    motions: Motions | None = None,
) -> Candidates:
    """Warp two frames of one size into the candidates of `names`; `network` is the network's own answer.

    `preset`: DIS's, for the two main candidates. `ahead`: how many frames after the current one, at the same motion.
    `motions`: of these frames, where they were found before. ValueError for an unknown name, or for "network" without
    its frame.
    """
    motions = motions or find(previous, current, names, preset)
    # One round is enough over one frame.
    rounds, motion = min(ahead, 2), motions.main if ahead == 1 else motions.main * np.float32(ahead)
    frames = np.empty((len(names), *current.shape), np.uint8)
    main, carried = (
        frames[names.index(name)] if name in names else np.empty(current.shape, np.uint8) for name in WARPED_TOGETHER
    )
    flow = warping.warp(motion, current, rounds, main, carried)
    for name, frame in zip(names, frames, strict=True):
        if name in WARPED_TOGETHER:
            continue
        if name == "crisp":
            read(current, places(flow), cubic=True, out=frame)
        elif name == "fast" and motions.fast is not None:
            frame[:] = sample(current, project(motions.fast * np.float32(ahead), rounds))
        elif name == "turned" and motions.onward is not None:
            turned = classical.turned(motions.onward, _to_previous(flow, ahead))
            frame[:] = sample(current, turned * np.float32(ahead))
        elif name == "farneback" and motions.farneback is not None:
            frame[:] = sample(current, project(motions.farneback * np.float32(ahead), rounds))
        elif name == "older":
            frame[:] = sample(previous, _to_previous(flow, ahead))
        elif name == "still":
            frame[:] = current
        elif name == "soft":
            cv2.GaussianBlur(main, (0, 0), SOFT, dst=frame)
        elif name == "blurred":
            _blur(main, current, frame)
        elif name == "network" and network is not None:
            frame[:] = network
        else:
            raise ValueError(f"no such candidate here: {name!r}")
    return Candidates(frames, flow)


def _to_previous(flow: Floats, ahead: int) -> Floats:
    """Return the flow HxWx2 to the previous frame, where `flow` leads `ahead` frames back to the current one."""
    return flow * np.float32((ahead + 1) / ahead)


def _searched(previous: Pixels, current: Pixels) -> list[Pixels]:
    """Return the luma HxW of two frames as motion is sought in it."""
    lumas = [grey(previous), grey(current)]
    if min(lumas[1].shape) < classical.SHORTEST_SIDE or fineness(lumas[1]) < TOO_FINE:
        return lumas
    return [np.asarray(cv2.GaussianBlur(luma, (0, 0), ANTI_ALIAS), np.uint8) for luma in lumas]


def _blur(main: Pixels, current: Pixels, out: Pixels) -> None:
    """Blend moving and standing still, blurred, into `out`: a hedge where neither is to be trusted.

    Blurred at half size, for less than half the time; it then differs by a quarter of a level on average.
    """
    height, width = main.shape[:2]
    middle = cv2.addWeighted(main, 2 / 3, current, 1 / 3, 0)
    half = cv2.resize(middle, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    half = cv2.GaussianBlur(half, (0, 0), BLURRED_AT_HALF)
    cv2.resize(half, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
