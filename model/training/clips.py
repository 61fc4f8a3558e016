"""Finds the clips of a data set on disk: folders of frames, videos, and the layouts of four public sets.

Lists files and reads manifests; decodes nothing (`decode.py`).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.training.filters import ClipVerdict

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v"})

#: Drives whose four ten-windows the benchmark tests on: never trained on (facts of the published split).
KITTI_TEST_DRIVES = ("2011_09_26_drive_0060", "2011_09_26_drive_0084", "2011_09_26_drive_0093", "2011_09_26_drive_0096")


NOTHING_WRONG = ClipVerdict()


class LayoutError(ValueError):
    """The folder does not hold what its layout promises; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """One clip: a video, or its frames as images in time order; and what its data set says is wrong with it."""

    name: str
    files: tuple[Path, ...]
    verdict: ClipVerdict = NOTHING_WRONG


def find(root: str | Path, layout: str, split: str = "train") -> list[ClipFiles]:
    """Find the clips under `root`, sorted by name. Raises LayoutError where there are none."""
    root = Path(root)
    readers: dict[str, Callable[[Path, str], Iterator[ClipFiles]]] = {
        "clips": _clips,
        "cityscapes": _cityscapes,
        "kitti": _kitti,
        "ucf101": _ucf101,
        "vimeo": _vimeo,
    }
    if layout not in readers:
        raise LayoutError(f"unknown layout {layout!r}: one of {', '.join(readers)}")
    files = sorted(readers[layout](root, split), key=lambda clip: clip.name)
    if not files:
        raise LayoutError(f"{root}: no clip of layout {layout}, split {split}")
    return files


def _clips(root: Path, split: str) -> Iterator[ClipFiles]:
    """Find videos and folders of images, any depth; a manifest.csv says which files count and their bad frames."""
    verdicts = _manifest(root / "manifest.csv")
    if verdicts:
        for name, verdict in verdicts.items():
            yield ClipFiles(name, (root / name,), verdict)
        return
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in VIDEOS:
            yield ClipFiles(str(path.relative_to(root)), (path,))
        elif path.suffix.lower() in IMAGES:
            folders[path.parent].append(path)
    for folder, images in folders.items():
        if len(images) >= 3:
            yield ClipFiles(str(folder.relative_to(root)), tuple(images))


def _cityscapes(root: Path, split: str) -> Iterator[ClipFiles]:
    """Find leftImg8bit_sequence/<split>/<city>/<city>_<clip>_<frame>_leftImg8bit.png; 30 frames a clip."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((root / "leftImg8bit_sequence" / split).glob("*/*_leftImg8bit.png")):
        city, clip, _frame = path.name.split("_")[:3]
        groups[f"{city}_{clip}"].append(path)
    for name, files in groups.items():
        # A clip number may continue over several annotated snippets: a gap in the frame numbers starts a new one.
        for part, images in enumerate(_runs(files, lambda path: int(path.name.split("_")[2]))):
            yield ClipFiles(f"{name}_{part}", tuple(images))


def _kitti(root: Path, split: str) -> Iterator[ClipFiles]:
    """Find <date>/<drive>_sync/image_0{2,3}/data/<frame>.png of the raw recordings."""
    for folder in sorted(root.glob("*/*_sync/image_0[23]/data")):
        drive = folder.parent.parent.name.removesuffix("_sync")
        if (drive in KITTI_TEST_DRIVES) == (split == "test"):
            images = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES))
            if len(images) >= 3:
                yield ClipFiles(f"{drive}/{folder.parent.name}", images)


def _ucf101(root: Path, split: str) -> Iterator[ClipFiles]:
    """Find what ucfTrainTestlist/{train,test}list01.txt names, <Class>/<clip>.avi: videos, or folders of frames."""
    listing = root / "ucfTrainTestlist" / f"{split}list01.txt"
    if not listing.is_file():
        raise LayoutError(f"{listing}: not found")
    for line in listing.read_text().split("\n"):
        name = line.split(" ")[0].strip()
        if not name:
            continue
        video = root / "UCF-101" / name
        if video.is_file():
            yield ClipFiles(name, (video,))
            continue
        folder = video.with_suffix("")
        if folder.is_dir():
            yield ClipFiles(name, tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)))


def _vimeo(root: Path, split: str) -> Iterator[ClipFiles]:
    """Find what tri_{train,test}list.txt names, <folder>/<clip>: sequences/<folder>/<clip>/im{1,2,3}.png."""
    listing = root / f"tri_{split}list.txt"
    if not listing.is_file():
        raise LayoutError(f"{listing}: not found")
    for name in filter(None, map(str.strip, listing.read_text().split("\n"))):
        folder = root / "sequences" / name
        yield ClipFiles(name, tuple(folder / f"im{i}.png" for i in (1, 2, 3)))


def _runs(files: list[Path], number: Callable[[Path], int]) -> Iterator[list[Path]]:
    images: list[Path] = []
    for path in files:
        if images and number(path) != number(images[-1]) + 1:
            yield images
            images = []
        images.append(path)
    if images:
        yield images


def _manifest(path: Path) -> dict[str, ClipVerdict]:
    """Read bad frames by file name: columns file, scene_cuts, duplicate_frames, irregular_steps (spaced numbers)."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {
            row["file"]: ClipVerdict(
                _numbers(row.get("scene_cuts")),
                _numbers(row.get("duplicate_frames")),
                _numbers(row.get("irregular_steps")),
            )
            for row in csv.DictReader(file)
        }


def _numbers(cell: str | None) -> frozenset[int]:
    return frozenset(map(int, (cell or "").split()))
