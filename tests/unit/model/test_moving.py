"""The parts of a pair that change: what lies outside is the same in both frames, and most of a frame is the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mixing import moving
from model.mixing.moving import AROUND, LEAST_TILES, TILE, Box

HEIGHT, WIDTH = 30 * TILE, 40 * TILE


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


def test_one_pixel_that_changes_is_found_wherever_it_is() -> None:
    """On the grid, with its surroundings; no row of a tile is left out."""
    picture, reach = frame(), (AROUND + 1) * TILE
    for y, x in itertools.product((0, 1, 250, HEIGHT - 1), (0, 15, 16, 333, WIDTH - 1)):
        (box,) = moving.boxes(picture, changed(picture, (y, x))) or ()
        assert box.top <= max(0, y - AROUND * TILE) < min(HEIGHT, y + AROUND * TILE) <= box.bottom
        assert box.left <= max(0, x - AROUND * TILE) < min(WIDTH, x + AROUND * TILE) <= box.right
        assert {side % TILE for side in box} == {0}
        assert min(box.bottom - box.top, box.right - box.left) >= LEAST_TILES * TILE
        assert max(box.bottom - box.top, box.right - box.left) <= max(2 * reach, LEAST_TILES * TILE)


def test_parts_far_from_each_other_stay_apart_and_those_that_overlap_become_one() -> None:
    picture = frame()
    apart = moving.boxes(picture, changed(picture, (40, 40), (400, 600)))
    assert apart is not None
    assert [box.of(picture).shape[:2] for box in apart] == [(96, 96), (96, 96)]
    (joined,) = moving.boxes(picture, changed(picture, (40, 40), (100, 120))) or ()
    assert joined == Box(0, 0, 144, 160)
    assert joined.area == 144 * 160
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
    assert moving.boxes(first, second) == [Box(160 - AROUND * TILE, 0, 320 + AROUND * TILE, WIDTH)]
