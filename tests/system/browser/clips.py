"""A clip that a browser plays, and what is in one that was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.e2e.process import SAMPLES


def write_webm(path: Path) -> Path:
    """Twelve sample frames as WebM: Debian's Chromium plays it whatever codecs it was built with."""
    import numpy as np
    from PIL import Image

    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10, options={"b": "2000000"})
        stream.width, stream.height, stream.pix_fmt = 448, 256, "yuv420p"
        for k in range(12):
            with Image.open(SAMPLES / f"frame{k:02}.png") as image:
                frame = av.VideoFrame.from_ndarray(np.array(image.convert("RGB")), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def count_frames(path: Path) -> int:
    """How many pictures a clip has."""
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
