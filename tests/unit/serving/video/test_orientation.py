from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from service.serving.video.clip import VideoError
from service.serving.video.orientation import Orientation

ONE = 1 << 16
#: a, b, c, d of the display matrix and what it makes of the picture 1 2 / 3 4 / 5 6.
WAYS = {
    (1, 0, 0, 1): [[1, 2], [3, 4], [5, 6]],
    (-1, 0, 0, 1): [[2, 1], [4, 3], [6, 5]],
    (1, 0, 0, -1): [[5, 6], [3, 4], [1, 2]],
    (-1, 0, 0, -1): [[6, 5], [4, 3], [2, 1]],
    (0, 1, -1, 0): [[5, 3, 1], [6, 4, 2]],  # a quarter turn clockwise
    (0, -1, 1, 0): [[2, 4, 6], [1, 3, 5]],
    (0, 1, 1, 0): [[1, 3, 5], [2, 4, 6]],
    (0, -1, -1, 0): [[6, 4, 2], [5, 3, 1]],
}


def _matrix(a: float, b: float, c: float, d: float) -> bytes:
    numbers = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    return struct.pack("9i", *(int(number) for number in numbers))


@pytest.mark.parametrize(("way", "wanted"), WAYS.items())
def test_each_way_to_hold_a_camera(way: tuple[int, int, int, int], wanted: list[list[int]]) -> None:
    picture = np.repeat(np.array([[1, 2], [3, 4], [5, 6]], np.uint8)[:, :, None], 3, axis=2)
    assert Orientation.of_matrix(_matrix(*way)).applied(picture)[:, :, 0].tolist() == wanted


def test_another_angle_than_a_quarter_turn_is_refused() -> None:
    with pytest.raises(VideoError, match="at an angle"):
        Orientation.of_matrix(_matrix(0.7, 0.7, -0.7, 0.7))


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_a_phones_film_comes_out_upright_or_mirrored_as_it_is_shown(
    tmp_path: Path, way: tuple[int, int, int, int]
) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    from tests.unit.serving.video.films import Film, copy, pixels, probe, write

    plain = write(tmp_path / "in.mp4", Film())
    straight, turned = (struct.pack(">9i", *struct.unpack("9i", _matrix(*numbers))) for numbers in ((1, 0, 0, 1), way))
    data = plain.read_bytes()
    # The first one is the movie's, the second the track's.
    place = data.rindex(straight)
    (tmp_path / "held.mp4").write_bytes(data[:place] + turned + data[place + 36 :])
    copy(tmp_path / "held.mp4", tmp_path / "out.mp4")
    wanted = Orientation.of_matrix(_matrix(*way)).applied(pixels(plain)[3])
    assert probe(tmp_path / "out.mp4").size == wanted.shape[1::-1]
    assert np.abs(pixels(tmp_path / "out.mp4")[3].astype(int) - wanted).mean() < 8
