from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dmvfn_client.pictures import raw, to_bytes, to_pixels
from PIL import Image

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_arrays_images_bytes_and_paths_are_the_same_picture(tmp_path: Path) -> None:
    data = to_bytes(PIXELS)
    path = tmp_path / "frame.png"
    path.write_bytes(data)
    for picture in (PIXELS, Image.fromarray(PIXELS), data, memoryview(data), path, str(path)):
        assert np.array_equal(to_pixels(to_bytes(picture)), PIXELS)


def test_grey_arrays_and_other_modes_become_rgb() -> None:
    grey = PIXELS[:, :, 0]
    assert np.array_equal(to_pixels(to_bytes(grey)), np.repeat(grey[:, :, None], 3, 2))
    sent = raw(grey)
    assert sent is not None
    assert sent.shape == (16, 24, 3)
    assert to_pixels(to_bytes(Image.fromarray(PIXELS).convert("P"))).shape == (16, 24, 3)


def test_raw_transports_get_pixels_only_where_there_are_some() -> None:
    assert raw(b"\x89PNG") is None
    assert np.array_equal(raw(PIXELS[:, ::2]), PIXELS[:, ::2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (PIXELS / 255.0, r"\.astype\('uint8'\)"),
        (PIXELS[None], "HxWx3"),
        (np.zeros((4, 4, 4), np.uint8), "HxWx3"),
        (7, "int"),
    ],
)
def test_what_is_no_picture_says_what_would_be(picture: object, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        to_bytes(picture)  # type: ignore[arg-type]
