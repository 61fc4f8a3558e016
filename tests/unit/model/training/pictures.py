"""Small clips for tests: a soft pattern that slides, as arrays, image folders and videos."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def sliding(count: int, height: int = 64, width: int = 80, speed: float = 2.0) -> NDArray[np.uint8]:
    """count x height x width x 3 frames of a pattern moving `speed` pixels a frame to the left."""
    y, x = np.indices((height, width))
    frames = []
    for i in range(count):
        moved = x + speed * i
        waves = [np.sin(moved / 5 + c) + np.cos(y / 6 + moved / 11 + c) for c in range(3)]
        frames.append(np.stack(waves, -1) * 50 + 120)
    return np.stack(frames).astype(np.uint8)


def write_images(folder: Path, frames: NDArray[np.uint8], pattern: str = "{:05d}.png") -> None:
    """One PNG a frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / pattern.format(i))


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """A lossless video (FFV1 in Matroska)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
