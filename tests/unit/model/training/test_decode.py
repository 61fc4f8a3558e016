"""Decoding: videos and image folders give the same frames, and a cache gives them again without decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.training import clips, decode
from model.training.clips import LayoutError
from tests.unit.model.training import pictures


def test_a_video_and_a_folder_of_its_frames_decode_alike(tmp_path: Path) -> None:
    frames = pictures.sliding(5)
    pictures.write_video(tmp_path / "a.mkv", frames)
    pictures.write_images(tmp_path / "b", frames)
    video, folder = (decode.array(clip) for clip in clips.find(tmp_path, "clips"))
    np.testing.assert_array_equal(folder, frames)
    np.testing.assert_array_equal(video, frames)


def test_a_cache_outlives_its_clips(tmp_path: Path) -> None:
    frames = pictures.sliding(6)
    pictures.write_images(tmp_path / "data" / "a", frames)
    found = clips.find(tmp_path / "data", "clips")
    told: list[tuple[int, int]] = []
    (first,) = decode.load(found, tmp_path / "cache", lambda done, total: told.append((done, total)))
    (again,) = decode.load(found, tmp_path / "cache", lambda done, total: told.append((done, total)))
    assert told == [(1, 1)]
    np.testing.assert_array_equal(again.frames, frames)
    assert (again.name, again.verdict) == (first.name, first.verdict)


def test_changed_clips_are_decoded_anew(tmp_path: Path) -> None:
    pictures.write_images(tmp_path / "data" / "a", pictures.sliding(4))
    decode.load(clips.find(tmp_path / "data", "clips"), tmp_path / "cache")
    pictures.write_images(tmp_path / "data" / "a", pictures.sliding(7))
    (clip,) = decode.load(clips.find(tmp_path / "data", "clips"), tmp_path / "cache")
    assert len(clip.frames) == 7


def test_frames_of_two_sizes_are_no_clip(tmp_path: Path) -> None:
    pictures.write_images(tmp_path, pictures.sliding(3), "a{:02d}.png")
    pictures.write_images(tmp_path, pictures.sliding(3, width=48), "b{:02d}.png")
    with pytest.raises(LayoutError, match="one size"):
        decode.load(clips.find(tmp_path, "clips"))
