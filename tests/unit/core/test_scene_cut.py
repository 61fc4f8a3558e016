"""Motion, light and noise are no cuts; another picture is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.core.scene_cut import is_cut, thumbnail
from service.core.types import Frame


def _picture(seed: int, height: int = 128, width: int = 224) -> np.ndarray:
    """A smooth coloured picture that no other seed resembles."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).copy()


def _cut(previous: np.ndarray, current: np.ndarray) -> bool:
    return is_cut(thumbnail(Frame(previous.copy())), thumbnail(Frame(current.copy())))


@pytest.mark.parametrize("seed", range(12))
def test_another_picture_is_a_cut_either_way(seed: int) -> None:
    # Half dark, half bright palettes, as different shots have.
    previous = _picture(seed) // 2
    current = _picture(seed + 100) // 2 + 127
    assert _cut(previous, current)
    assert _cut(current, previous)


@pytest.mark.parametrize("seed", range(12))
def test_a_pan_a_change_of_light_and_noise_are_no_cuts(seed: int) -> None:
    picture = _picture(seed)
    noise = np.random.default_rng(seed).integers(-12, 13, picture.shape)
    assert not _cut(picture, np.roll(picture, (4, -9), axis=(0, 1)))
    assert not _cut(picture, (picture * 0.8).astype(np.uint8))
    assert not _cut(picture, np.clip(picture + noise, 0, 255).astype(np.uint8))
    assert not _cut(picture, picture)


def test_black_to_a_scene_is_a_cut_and_black_to_black_is_not() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert _cut(black, _picture(1, 64, 64))
    assert not _cut(black, black + 3)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (97, 203), (256, 448)])
def test_a_thumbnail_is_the_means_of_its_samples_and_the_shares_of_their_colours(height: int, width: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    small = thumbnail(Frame(picture))
    rows, columns = np.arange(72) * height // 72, np.arange(120) * width // 120
    means = picture[rows][:, columns].reshape(24, 3, 40, 3, 3).mean((1, 3), dtype=np.float32)
    assert np.array_equal(small.pixels, means)
    red, green, blue = np.moveaxis((means / 64).astype(int), 2, 0)
    assert np.array_equal(
        small.colours, (np.bincount((16 * red + 4 * green + blue).ravel(), minlength=64) / 960).astype(np.float32)
    )


def test_the_smallest_frames_have_thumbnails_too() -> None:
    small = thumbnail(Frame(_picture(2, 16, 16)))
    assert small.pixels.shape == (24, 40, 3)
    assert small.colours.sum() == pytest.approx(1.0)
