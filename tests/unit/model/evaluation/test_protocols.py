"""Which frames each benchmark shows and asks for, on small trees of its shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.evaluation import protocols
from model.evaluation.protocols import Window
from model.training.clips import LayoutError
from tests.unit.model.training import pictures


def _numbered(count: int, height: int = 16, width: int = 32) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Frame i is grey level 10 i: a window tells which frames it holds."""
    levels = np.arange(count, dtype=np.uint8) * 10
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


def _numbers(window: Window) -> list[int]:
    return [int(frame[0, 0, 0]) // 10 for frame in (window.previous, window.current, *window.targets)]


def test_cityscapes_shows_frames_2_and_3_of_each_clip_at_512_by_1024(tmp_path: Path) -> None:
    folder = tmp_path / "leftImg8bit_sequence" / "val" / "jena"
    pictures.write_images(folder, _numbered(14), "jena_000000_{:06d}_leftImg8bit.png")
    (window,) = protocols.windows("cityscapes", tmp_path)
    assert _numbers(window) == [2, 3, 4, 5, 6, 7, 8]
    assert window.previous.shape == (512, 1024, 3)


def test_kitti_slides_over_the_left_camera_of_the_test_drives_at_256_by_832(tmp_path: Path) -> None:
    for camera in ("image_02", "image_03"):
        data = tmp_path / "2011_09_26" / "2011_09_26_drive_0084_sync" / camera / "data"
        pictures.write_images(data, _numbered(11))
    found = list(protocols.windows("kitti", tmp_path))
    assert [_numbers(window)[0] for window in found] == [2, 3, 4]
    assert (found[0].current.shape, len(found[0].targets)) == ((256, 832, 3), 5)


def test_davis_takes_the_first_nine_frames_of_its_list(tmp_path: Path) -> None:
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("dog\n")
    pictures.write_images(tmp_path / "JPEGImages" / "480p" / "dog", _numbered(12))
    pictures.write_images(tmp_path / "JPEGImages" / "480p" / "bear", _numbered(12))
    (window,) = protocols.windows("davis", tmp_path)
    assert (window.clip, _numbers(window)) == ("dog", [2, 3, 4, 5, 6, 7, 8])
    assert window.previous.shape == (16, 32, 3)


def test_vimeo_asks_for_the_third_of_three(tmp_path: Path) -> None:
    pictures.write_images(tmp_path / "sequences" / "00001" / "0001", _numbered(4)[1:], "im{}.png")
    folder = tmp_path / "sequences" / "00001" / "0001"
    for i in (2, 1, 0):
        (folder / f"im{i}.png").rename(folder / f"im{i + 1}.png")
    (tmp_path / "tri_testlist.txt").write_text("00001/0001\n")
    (window,) = protocols.windows("vimeo", tmp_path)
    assert _numbers(window) == [1, 2, 3]


def test_clips_give_windows_spread_evenly(tmp_path: Path) -> None:
    pictures.write_images(tmp_path / "long", _numbered(12))
    pictures.write_images(tmp_path / "short", _numbered(4))
    found = list(protocols.windows("clips", tmp_path, per_clip=3, steps=3))
    assert [_numbers(window) for window in found] == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [7, 8, 9, 10, 11]]


def test_reported_horizons() -> None:
    assert protocols.reported("cityscapes") == (1, 3, 5)
    assert protocols.reported("vimeo") == (1,)
    assert protocols.reported("clips", 3) == (1, 3)


@pytest.mark.parametrize("name", ["davis", "moving-mnist"])
def test_what_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(LayoutError, match=r"val\.txt|unknown benchmark"):
        list(protocols.windows(name, tmp_path))
