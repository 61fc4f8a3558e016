"""Finding clips in small trees of the shape of each data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.training import clips
from model.training.clips import LayoutError
from model.training.filters import ClipVerdict


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _found(root: Path, layout: str, split: str = "train") -> dict[str, int]:
    return {clip.name: len(clip.files) for clip in clips.find(root, layout, split)}


def test_videos_and_folders_of_frames(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "deep/b.webm", "c/0.png", "c/1.png", "c/2.jpg", "short/0.png", "notes.txt")
    assert _found(tmp_path, "clips") == {"a.mp4": 1, "c": 3, "deep/b.webm": 1}


def test_a_manifest_says_which_files_count_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "manifest.csv").write_text("file,scene_cuts,duplicate_frames,irregular_steps\na.mp4,9 10,,2\n")
    (found,) = clips.find(tmp_path, "clips")
    assert found.name == "a.mp4"
    assert found.verdict == ClipVerdict(frozenset({9, 10}), frozenset(), frozenset({2}))


def test_cityscapes_snippets_split_at_gaps(tmp_path: Path) -> None:
    folder = "leftImg8bit_sequence/train/ulm/"
    _touch(tmp_path, *(f"{folder}ulm_000001_{n:06d}_leftImg8bit.png" for n in (0, 1, 2, 20, 21)))
    _touch(tmp_path, "leftImg8bit_sequence/val/jena/jena_000000_000000_leftImg8bit.png")
    assert _found(tmp_path, "cityscapes") == {"ulm_000001_0": 3, "ulm_000001_1": 2}
    assert _found(tmp_path, "cityscapes", "val") == {"jena_000000_0": 1}


def test_kitti_keeps_the_test_drives_apart(tmp_path: Path) -> None:
    for drive in ("2011_09_26_drive_0060_sync", "2011_09_28_drive_0001_sync"):
        for camera in ("image_00", "image_02", "image_03"):
            _touch(tmp_path, *(f"{drive[:10]}/{drive}/{camera}/data/{n:010d}.png" for n in range(3)))
    assert _found(tmp_path, "kitti") == {f"2011_09_28_drive_0001/image_0{n}": 3 for n in (2, 3)}
    assert _found(tmp_path, "kitti", "test") == {f"2011_09_26_drive_0060/image_0{n}": 3 for n in (2, 3)}


def test_ucf101_reads_its_list_and_takes_videos_or_frames(tmp_path: Path) -> None:
    _touch(tmp_path, "UCF-101/Archery/v_1.avi", *(f"UCF-101/Biking/v_2/{n}.jpg" for n in range(4)))
    _touch(tmp_path, "UCF-101/Biking/v_3.avi")
    (tmp_path / "ucfTrainTestlist").mkdir()
    (tmp_path / "ucfTrainTestlist/trainlist01.txt").write_text("Archery/v_1.avi 1\nBiking/v_2.avi 2\n")
    assert _found(tmp_path, "ucf101") == {"Archery/v_1.avi": 1, "Biking/v_2.avi": 4}


def test_vimeo_reads_its_lists(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"sequences/00001/0001/im{n}.png" for n in (1, 2, 3)))
    (tmp_path / "tri_trainlist.txt").write_text("00001/0001\n")
    (tmp_path / "tri_testlist.txt").write_text("\n")
    assert _found(tmp_path, "vimeo") == {"00001/0001": 3}
    with pytest.raises(LayoutError, match="no clip"):
        clips.find(tmp_path, "vimeo", "test")


@pytest.mark.parametrize("layout", ["vimeo", "ucf101"])
def test_a_missing_list_is_named(tmp_path: Path, layout: str) -> None:
    with pytest.raises(LayoutError, match="list"):
        clips.find(tmp_path, layout)


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="unknown layout"):
        clips.find(tmp_path, "moving-mnist")
