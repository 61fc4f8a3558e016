"""Decodes clips to uint8 arrays, and keeps a data set decoded in one flat file so that it is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.training.clips import VIDEOS, ClipFiles, LayoutError
from model.training.filters import ClipVerdict, judge

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """One decoded clip."""

    name: str
    frames: Frames  #: NxHxWx3 RGB; a read-only view of a file where a cache is used
    verdict: ClipVerdict


def frames(clip: ClipFiles) -> Iterator[Frames]:
    """Decode the frames of a clip in time order, HxWx3 RGB uint8 each."""
    if len(clip.files) == 1 and clip.files[0].suffix.lower() in VIDEOS:
        with av.open(str(clip.files[0])) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return
    for path in clip.files:
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB"))


def array(clip: ClipFiles) -> Frames:
    """Decode all frames of a clip, NxHxWx3. Raises LayoutError where they differ in size or there are none."""
    images = list(frames(clip))
    if len({frame.shape for frame in images}) != 1:
        raise LayoutError(f"{clip.name}: frames of one size expected, at least one")
    return np.stack(images)


def load(
    clips: list[ClipFiles], cache: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Clip]:
    """Decode and judge every clip; with `cache`, a folder, from (or into) one file there, mapped and not read."""
    if cache is None:
        return [_judged(clip, array(clip)) for clip in clips]
    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(clips)
    data, index = folder / f"{key}.u8", folder / f"{key}.json"
    if not index.is_file():
        _write(clips, data, index, progress)
    entries = json.loads(index.read_text())
    # Copy-on-write: torch refuses to wrap what cannot be written, and nothing here writes.
    flat = np.memmap(data, dtype=np.uint8, mode="c")
    decoded_clips = []
    for entry in entries:
        n, h, w = entry["shape"]
        view = flat[entry["offset"] : entry["offset"] + n * h * w * 3].reshape(n, h, w, 3)
        cuts, duplicates, irregular = (frozenset(entry[kind]) for kind in ("cuts", "duplicates", "irregular"))
        decoded_clips.append(
            Clip(entry["name"], view, ClipVerdict(cuts, duplicates, irregular, entry["still"], entry["typical"]))
        )
    return decoded_clips


def _judged(clip: ClipFiles, images: Frames) -> Clip:
    return Clip(clip.name, images, judge(images).joined(clip.verdict))


def _key(clips: list[ClipFiles]) -> str:
    digest = hashlib.sha256()
    for clip in clips:
        stat = clip.files[0].stat()
        digest.update(f"{clip.name} {len(clip.files)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write(clips: list[ClipFiles], data: Path, index: Path, progress: Callable[[int, int], None] | None) -> None:
    entries, offset = [], 0
    # Under another name until whole: a run that is stopped here starts over.
    part = data.with_suffix(".part")
    with part.open("wb") as file:
        for count, files in enumerate(clips, 1):
            clip = _judged(files, array(files))
            file.write(clip.frames.tobytes())
            verdict = clip.verdict
            entries.append(
                {
                    "name": clip.name,
                    "shape": clip.frames.shape[:3],
                    "offset": offset,
                    "cuts": sorted(verdict.cuts),
                    "duplicates": sorted(verdict.duplicates),
                    "irregular": sorted(verdict.irregular),
                    "still": verdict.still,
                    "typical": verdict.typical,
                }
            )
            offset += clip.frames.size
            if progress:
                progress(count, len(clips))
    part.replace(data)
    index.write_text(json.dumps(entries))
