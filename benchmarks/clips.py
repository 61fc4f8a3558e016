"""Frame pairs to ask about: the sample clip at any size, so that routes are those of real motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLES = Path(__file__).parent.parent / "samples"


def size(text: str) -> tuple[int, int]:
    """`256x448` -> height, width."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def pair(height: int, width: int, number: int = 0) -> NDArray[np.uint8]:
    """2xHxWx3: two neighbouring frames, the clip's `number`-th and the next."""
    files = sorted(SAMPLES.glob("frame*.png"))
    pictures = [
        Image.open(files[number % (len(files) - 1) + i]).convert("RGB").resize((width, height)) for i in range(2)
    ]
    return np.stack([np.asarray(picture) for picture in pictures])
