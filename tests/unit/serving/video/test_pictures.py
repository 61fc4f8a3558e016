"""What a film's pixels mean: grey of either range, matrices that its primaries tell, palettes that are clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.core.types import Frame
from service.serving.video.clip import VideoError
from service.serving.video.files import open_source
from tests.unit.serving.video.films import LIMITS, Film, copy, pixels, write

LIMITED, FULL = 1, 2
#: ISO/IEC 23091-2: the matrix that follows from the primaries, and those of constant luminance.
DERIVED, BT2020_CONSTANT, DERIVED_CONSTANT = 12, 10, 13


def _grey_film(path: Path, levels: list[int], bits: int, color_range: int) -> Path:
    """Bands of these grey levels as they are coded, without loss."""
    name, kind = ("gray", "u1") if bits == 8 else (f"gray{bits}le", "<u2")
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 16 * len(levels), 32, name
        video.codec_context.color_range = color_range
        picture = av.VideoFrame(16 * len(levels), 32, name)
        line = picture.planes[0].line_size // np.dtype(kind).itemsize
        rows = np.zeros((32, line), kind)
        rows[:, : 16 * len(levels)] = np.repeat(levels, 16)
        picture.planes[0].update(rows.tobytes())
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("bits", [8, 10])
def test_a_grey_films_range_is_what_it_says(tmp_path: Path, bits: int) -> None:
    """FFmpeg's scaler takes all grey for full range: AV1's and HEVC's black came out as 16, their white as 235."""
    scale = 2 ** (bits - 8)
    limited = _grey_film(tmp_path / "limited.mkv", [16 * scale, 126 * scale, 235 * scale], bits, LIMITED)
    full = _grey_film(tmp_path / "full.mkv", [0, 128 * scale, 2**bits - 1], bits, FULL)
    for film, middle in ((limited, 128), (full, 128)):
        [shown] = pixels(film)
        bands = shown[16, 8::16].astype(int)
        assert np.abs(bands - np.array([0, middle, 255])[:, None]).max() <= 1, film.name
    copy(limited, tmp_path / "out.mp4")
    [written] = pixels(tmp_path / "out.mp4")
    assert np.abs(written[16, 8::16].astype(int) - np.array([0, 128, 255])[:, None]).max() <= 2


@pytest.mark.parametrize(("primaries", "coded", "name"), [(9, 9, "bt2020nc"), (1, 1, "bt709"), (6, 7, "smpte240m")])
def test_a_matrix_that_follows_from_the_primaries_is_theirs(
    tmp_path: Path, primaries: int, coded: int, name: str
) -> None:
    """It was taken for the one that the height has: wrong colours, and tagged as if they were right."""
    plain = Frame(np.full((32, 48, 3), (30, 140, 220), np.uint8))
    film = write(tmp_path / "in.mkv", Film([plain] * 2, tags=(primaries, 1, DERIVED, LIMITED), coded=coded))
    assert np.abs(pixels(film)[0].astype(int) - plain.pixels).max() <= 3
    copy(film, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert int(container.streams.video[0].codec_context.colorspace) == coded, name


@pytest.mark.parametrize(
    ("primaries", "matrix"), [(9, BT2020_CONSTANT), (9, DERIVED_CONSTANT), (2, DERIVED), (12, DERIVED)]
)
def test_a_matrix_that_the_scaler_would_show_wrong_is_refused(tmp_path: Path, primaries: int, matrix: int) -> None:
    film = write(tmp_path / "in.mkv", Film(tags=(primaries, 1, matrix, LIMITED), coded=9))
    with pytest.raises(VideoError, match=r"colours are coded as .*zscale=matrix=709"):
        open_source(str(film), limits=LIMITS)


@pytest.mark.parametrize(("alpha", "is_refused"), [(255, False), (254, True)])
def test_a_palette_with_a_clear_colour_is_transparent(tmp_path: Path, alpha: int, is_refused: bool) -> None:
    """No component of such a format is an alpha channel, so that it was taken as opaque."""
    picture = av.VideoFrame(48, 32, "pal8")
    indexes = np.zeros((32, picture.planes[0].line_size), np.uint8)
    indexes[3, 5] = 1
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 3] = 255
    palette[1, 3] = alpha
    picture.planes[0].update(indexes.tobytes())
    picture.planes[1].update(palette.tobytes())
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        video: Any = container.add_stream("png", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "pal8"
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
    if is_refused:
        with pytest.raises(VideoError, match="transparent"):
            open_source(str(tmp_path / "in.mov"), limits=LIMITS)
    else:
        assert not pixels(tmp_path / "in.mov")[0].any()
