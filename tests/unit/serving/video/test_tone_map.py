from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.core.types import Frame
from service.serving.video.tone_map import HLG, PQ, to_sdr

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
