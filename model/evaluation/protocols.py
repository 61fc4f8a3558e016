"""Which frames are shown and which are asked for, in the four published benchmarks and in any folder of clips.

Sources: the published test scripts as noted in docs/evaluation.md. "t+k" is the mean over steps 1..k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training import clips, decode
from model.training.clips import IMAGES, ClipFiles, LayoutError

Frame = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Window:
    """Two inputs and the frames that follow."""

    clip: str
    previous: Frame  #: HxWx3 RGB
    current: Frame
    targets: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a benchmark cuts windows out of clips."""

    name: str
    #: Steps reported, e.g. (1, 3, 5); the last one says how many frames are predicted.
    steps: tuple[int, ...]
    #: Height and width that frames are reduced to; None leaves them.
    size: tuple[int, int] | None = None
    #: Frames of a window; the inputs stand directly before the targets, frames before them are not used.
    length: int = 9
    #: One window from the start of each clip, or one from every frame on.
    sliding: bool = False


CITYSCAPES = Protocol("cityscapes", (1, 3, 5), (512, 1024))
KITTI = Protocol("kitti", (1, 3, 5), (256, 832), sliding=True)
DAVIS = Protocol("davis", (1, 3, 5))
VIMEO = Protocol("vimeo", (1,), length=3)
NAMES = ("clips", "cityscapes", "kitti", "davis", "vimeo")


def windows(name: str, root: str | Path, per_clip: int = 5, steps: int = 3) -> Iterator[Window]:
    """Cut the windows of a benchmark below `root`; `per_clip` and `steps` are those of the layout "clips" only."""
    root = Path(root)
    if name == "clips":
        yield from _spread(clips.find(root, "clips"), per_clip, steps)
    elif name == "cityscapes":
        yield from _cut(clips.find(root, "cityscapes", "val"), CITYSCAPES)
    elif name == "kitti":
        left_camera = [clip for clip in clips.find(root, "kitti", "test") if clip.name.endswith("image_02")]
        yield from _cut(left_camera, KITTI)
    elif name == "davis":
        yield from _cut(_davis(root), DAVIS)
    elif name == "vimeo":
        yield from _cut(clips.find(root, "vimeo", "test"), VIMEO)
    else:
        raise LayoutError(f"unknown benchmark {name!r}: one of {', '.join(NAMES)}")


def reported(name: str, steps: int = 3) -> tuple[int, ...]:
    """Return the steps that a benchmark reports."""
    steps_of = {p.name: p.steps for p in (CITYSCAPES, KITTI, DAVIS, VIMEO)}
    return steps_of.get(name, tuple(k for k in (1, 3, 5, 10) if k <= steps))


def _cut(sources: list[ClipFiles], protocol: Protocol) -> Iterator[Window]:
    inputs = protocol.length - protocol.steps[-1] - 2
    for clip in sources:
        count = len(clip.files)
        starts = range(count - protocol.length + 1) if protocol.sliding else range(min(1, count // protocol.length))
        for start in starts:
            # Only a window's own files are decoded: a sliding benchmark is larger than memory.
            files = clip.files[start + inputs : start + protocol.length]
            frames = [_reduced(frame, protocol.size) for frame in decode.frames(ClipFiles(clip.name, files))]
            yield Window(clip.name, frames[0], frames[1], tuple(frames[2:]))


def _spread(sources: list[ClipFiles], per_clip: int, steps: int) -> Iterator[Window]:
    for clip in sources:
        frames = decode.array(clip)
        spare = len(frames) - 2 - steps
        if spare < 0:
            continue
        for start in sorted({round(i * spare / max(1, per_clip - 1)) for i in range(per_clip)}):
            yield Window(clip.name, frames[start], frames[start + 1], tuple(frames[start + 2 : start + 2 + steps]))


def _davis(root: Path) -> list[ClipFiles]:
    """Find the folders of JPEGImages/480p that ImageSets/2017/val.txt names."""
    listing = root / "ImageSets" / "2017" / "val.txt"
    if not listing.is_file():
        raise LayoutError(f"{listing}: not found")
    entries = []
    for name in listing.read_text().split():
        folder = root / "JPEGImages" / "480p" / name
        entries.append(ClipFiles(name, tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES))))
    return entries


def _reduced(frame: Frame, size: tuple[int, int] | None) -> Frame:
    if size is None or frame.shape[:2] == size:
        return frame
    return cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
