"""How a whole picture moves, found and gone on with: exact on known shifts, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.core.panning import STILL, Pan, pan, panned
from service.core.types import Frame


def scene(height: int, width: int, x: int, y: int, seed: int = 3) -> Frame:
    """A window into a large smooth picture, which the camera has moved over so that all moves by (x, y)."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8 + 25, width // 8 + 25, 3), dtype=np.uint8)
    large = np.array(Image.fromarray(cells).resize((8 * cells.shape[1], 8 * cells.shape[0]), Image.Resampling.BICUBIC))
    return Frame(np.ascontiguousarray(large[100 - y : 100 - y + height, 100 - x : 100 - x + width]))


@pytest.mark.parametrize("shift", [(5, 0), (-7, 3), (2, -11), (20, 1), (-1, 1)])
@pytest.mark.parametrize("size", [(256, 448), (64, 96), (720, 1280)])
def test_a_pan_is_found_to_the_pixel(size: tuple[int, int], shift: tuple[int, int]) -> None:
    assert pan(scene(*size, 0, 0), scene(*size, *shift)) == Pan(*shift)


def test_where_nothing_moves_as_a_whole_nothing_is_moved() -> None:
    rng = np.random.default_rng(0)
    noise = [Frame(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(2)]
    assert pan(*noise) == STILL
    flat = Frame(np.full((64, 96, 3), 9, np.uint8))
    assert pan(flat, flat) == STILL
    tiny = Frame(np.zeros((1, 1, 3), np.uint8))
    assert pan(tiny, tiny) == STILL
    current = scene(64, 96, 0, 0)
    assert panned(current, STILL, 3.0) is current


def test_a_picture_is_moved_by_what_its_moment_asks_and_its_border_repeated() -> None:
    current, moved = scene(64, 96, 0, 0), panned(scene(64, 96, 0, 0), Pan(4, -2), 1.5).pixels
    assert np.array_equal(moved[:-3, 6:], current.pixels[3:, :-6])
    assert np.array_equal(moved[:-3, :6], np.repeat(current.pixels[3:, :1], 6, axis=1))
    assert np.array_equal(moved[-3:], np.repeat(moved[-4:-3], 3, axis=0))
    assert panned(current, Pan(96, 64), 16.0).pixels.shape == current.pixels.shape
