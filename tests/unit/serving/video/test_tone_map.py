from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.core.types import Frame
from service.serving.video.tone_map import HLG, PQ, _light_table, to_sdr

#: Signals of 8 bits: diffuse white (203 cd/m2) in PQ is 58 %, in HLG 75 %.
WHITE = {PQ: 148, HLG: 191}


def _grey(level: int) -> np.ndarray:
    return np.full((2, 2, 3), level * 257, np.uint16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_light_becomes_what_a_common_display_shows(transfer: int) -> None:
    shown = [int(to_sdr(_grey(level), transfer, 9)[0, 0, 0]) for level in range(256)]
    assert shown[0] == 0
    assert shown == sorted(shown)
    assert 225 <= shown[WHITE[transfer]] <= 245
    assert shown[-1] >= 254


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_grey_stays_grey_and_colours_keep_their_order(transfer: int) -> None:
    grey = to_sdr(_grey(120), transfer, 9)[0, 0].astype(int)
    assert np.ptp(grey) <= 1
    red, green, blue = to_sdr(np.full((2, 2, 3), (38550, 28270, 17990), np.uint16), transfer, 9)[0, 0].astype(int)
    assert red > green > blue


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_colour_is_the_same_whichever_primaries_say_it(transfer: int) -> None:
    """P3's, of phones and cinemas, were taken for BT.709's; primaries that are not told are BT.2020's (BT.2100)."""
    red_709 = np.array([0.3, 0.02, 0.02])
    matrices = {
        1: np.eye(3),
        9: [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]],
        12: [[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]],
    }
    to_light = _light_table(transfer)
    shown = []
    for primaries in (1, 9, 2, 12, 11):
        wanted = np.array(matrices[{2: 9, 11: 12}.get(primaries, primaries)]) @ red_709
        signal = np.searchsorted(to_light, wanted * (1.0 if transfer == PQ else 4.0)).astype(np.uint16)
        shown.append(to_sdr(np.broadcast_to(signal, (2, 2, 3)), transfer, primaries)[0, 0].astype(int))
    spread = 1 if transfer == PQ else 12  # HLG's display works on luma, which differs with the primaries
    assert np.ptp(shown, axis=0).max() <= spread


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm", ".y4m"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_film_of_high_dynamic_range_is_shown_and_tagged_as_what_it_became(
    tmp_path: Path, transfer: int, target: str
) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    from tests.unit.serving.video.films import Film, copy, pixels, probe, write

    frames = [Frame(np.full((32, 48, 3), WHITE[transfer], np.uint8))] * 3
    film = write(tmp_path / "in.mp4", Film(frames, pix_fmt="yuv420p10le", tags=(9, transfer, 9, 1)))
    copy(film, tmp_path / f"out{target}")
    colours = probe(tmp_path / f"out{target}").colours
    if target in (".mp4", ".mkv"):
        assert colours == ("tv", "bt709", "bt709", "bt709")
    assert "smpte2084" not in colours
    assert "arib-std-b67" not in colours
    assert 218 <= pixels(tmp_path / f"out{target}")[1].mean() <= 245


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gbrp10le"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_no_level_of_a_film_is_darker_than_its_signal_says(transfer: int, pixel_format: str) -> None:
    """FFmpeg's scaler makes white of YUV 255/256 of 16 bits: frames were up to two levels too dark."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    from service.serving.video.orientation import Orientation
    from service.serving.video.pictures import to_rgb

    bits, is_rgb = (12 if "12" in pixel_format else 10), pixel_format.startswith("gbr")
    black, white = (0, 2**bits - 1) if is_rgb else (16 << bits - 8, 235 << bits - 8)
    errors = []
    for level in np.linspace(black, white, 150).round().astype(int):
        picture = av.VideoFrame(32, 16, pixel_format)
        chroma = level if is_rgb else 1 << bits - 1
        for plane, value in zip(picture.planes, (level, chroma, chroma), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
        picture.color_trc, picture.color_primaries, picture.colorspace = transfer, 9, (0 if is_rgb else 9)
        picture.color_range = 2 if is_rgb else 1
        shown = to_rgb(picture, Orientation())[8, 16].astype(int)
        signal = round((level - black) / (white - black) * 65535)
        errors.append(shown - to_sdr(np.full((1, 1, 3), signal, np.uint16), transfer, 9)[0, 0])
    assert np.abs(errors).max() <= 1
    assert abs(np.mean(errors)) < 0.1
