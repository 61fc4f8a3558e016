"""The budget counts the parts that a request really has, and its zlib deflates the rows that our PNG has."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from benchmarks import clips, request_budget
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import ImageFormat


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [Frame(picture) for picture in clips.pair(64, 96)]


def test_every_format_is_decoded_and_encoded(frames: list[Frame]) -> None:
    rows = request_budget.codecs(frames, 1)
    assert list(rows) == ["png", "jpeg", "webp", "raw"]
    assert rows["raw"][2] == 64 * 96 * 3
    assert all(decode > 0 and encode > 0 for decode, encode, _ in rows.values())


def test_zlib_is_given_the_rows_of_our_png(frames: list[Frame]) -> None:
    png = codec.encode(frames[1], ImageFormat.PNG)
    (length,) = struct.unpack(">I", png[request_budget.PNG_HEAD - 8 : request_budget.PNG_HEAD - 4])
    idat = png[request_budget.PNG_HEAD : request_budget.PNG_HEAD + length]
    assert len(zlib.decompress(idat)) == 64 * (1 + 3 * 96)
    # What ISA-L writes may be larger than zlib's of the same rows, but not by much.
    assert len(idat) < 1.2 * request_budget.by_zlib(frames[1], 1)[1]


def test_a_mixture_has_its_three_parts() -> None:
    rows = request_budget.mixtures(np.asarray(clips.pair(64, 96)), 1)
    assert list(rows) == ["flow", "live head"]
    assert all(list(parts) == ["motion", "warp", "mix"] for parts in rows.values())
