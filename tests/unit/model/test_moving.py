"""The parts of a pair that change: what lies outside is the same in both frames, and most of a frame is the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mixing import moving
from model.mixing.moving import AROUND, LEAST_TILES, TILE, Box

HEIGHT, WIDTH = 480, 640
#: Pixels around what changes that are taken with it, by the part of the size at which motion is found.
REACH = {scale: tiles * TILE for scale, tiles in AROUND.items()}


def frame(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def changed(picture: NDArray[np.uint8], *places: tuple[int, int]) -> NDArray[np.uint8]:
    """A copy with the last colour of these pixels changed by one."""
    copy = picture.copy()
    for y, x in places:
        copy[y, x, 2] ^= 1
    return copy


def test_equal_frames_have_no_part_that_moves() -> None:
    assert moving.boxes(frame(), frame()) == []


@pytest.mark.parametrize(("y", "x"), [*itertools.product((0, 250, HEIGHT - 1), (0, 15, 16, WIDTH - 1))])
def test_one_pixel_that_changes_is_found_wherever_it_is(y: int, x: int) -> None:
    """On the grid, with its surroundings; no row of a tile is left out."""
    picture = frame()
    for scale, reach in REACH.items():
        boxes = moving.boxes(picture, changed(picture, (y, x)), scale)
        assert boxes is not None
        (box,) = boxes
        assert box.top <= max(0, y - reach) < min(HEIGHT, y + reach) <= box.bottom
        assert box.left <= max(0, x - reach) < min(WIDTH, x + reach) <= box.right
        assert {side % TILE for side in box} == {0}
        assert min(box.bottom - box.top, box.right - box.left) >= LEAST_TILES * TILE
        assert max(box.bottom - box.top, box.right - box.left) <= max(2 * reach + 2 * TILE, LEAST_TILES * TILE)


def test_every_row_of_a_tile_is_looked_at() -> None:
    picture = frame()
    for y in range(200, 200 + TILE):
        assert moving.boxes(picture, changed(picture, (y, 300))) == moving.boxes(picture, changed(picture, (200, 300)))


def test_parts_far_from_each_other_stay_apart_and_those_that_overlap_become_one() -> None:
    picture = frame()
    apart = moving.boxes(picture, changed(picture, (40, 40), (400, 600)))
    assert apart is not None
    assert [box.of(picture).shape[:2] for box in apart] == [(96, 96), (96, 96)]
    joined = Box(8, 8, 104, 136)
    assert moving.boxes(picture, changed(picture, (40, 40), (70, 90))) == [joined]
    assert joined.area == 96 * 128
    arms = [(y, 40) for y in range(40, 250, TILE)] + [(250, x) for x in range(40, 300, TILE)]
    assert moving.boxes(picture, changed(picture, *arms)) == moving.boxes(picture, changed(picture, *arms, (60, 250)))


def test_a_frame_of_which_most_changes_is_taken_whole() -> None:
    picture, noise = frame(), np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert moving.boxes(picture, noise) is None
    every_tenth_row = picture.copy()
    every_tenth_row[5::TILE] = noise[5::TILE]
    assert moving.boxes(picture, every_tenth_row) is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 500), (100, 33), (481, 643)])
def test_what_lies_outside_is_equal_whatever_the_size(height: int, width: int) -> None:
    picture = frame(height, width)
    other = changed(picture, (height - 1, width - 1))
    boxes = moving.boxes(picture, other)
    if boxes is None:
        assert min(height, width) < 2 * LEAST_TILES * TILE, "a small frame is no larger than a part"
        return
    outside = np.ones((height, width), bool)
    for box in boxes:
        assert box.bottom <= height
        assert box.right <= width
        outside[box.top : box.bottom, box.left : box.right] = False
    assert np.array_equal(picture[outside], other[outside])


def test_bars_above_and_below_a_film_are_left_out() -> None:
    """All but the tiles next to the picture: with a third of the height in bars, most of them."""
    first, second = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    first[160:320], second[160:320] = frame(160), frame(160)[::-1]
    assert moving.boxes(first, second) == [Box(160 - REACH[1.0], 0, 320 + REACH[1.0], WIDTH)]


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (203, 301)])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_the_core_of_a_part_has_all_that_changes_and_what_is_around_it(height: int, width: int, scale: float) -> None:
    picture = frame(height, width)
    for y, x in itertools.product((0, 100, height - 1), (0, 151, width - 1)):
        core = moving.core(picture, changed(picture, (y, x)), scale)
        around = moving.AROUND_CORE[scale] * TILE
        assert core.top <= max(0, y - around) < min(height, y + around + 1) <= core.bottom
        assert core.left <= max(0, x - around) < min(width, x + around + 1) <= core.right
        assert core.bottom - core.top <= max(2 * around + 2 * TILE, moving.LEAST_CORE * TILE)
        small = picture[:: round(1 / scale), :: round(1 / scale)][core.slices(scale)]
        rows, columns = (-(-side // round(1 / scale)) for side in (core.bottom - core.top, core.right - core.left))
        assert small.shape == (rows, columns, 3)
