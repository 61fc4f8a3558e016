from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidFrame, TooLarge
from service.core.types import Frame
from service.imaging.codec import FrameLimits
from service.serving.video.clip import Item, Timed, VideoError
from service.serving.video.y4m import Y4mHeader, Y4mSource, from_rgb, to_rgb
from tests.tools import require
from tests.unit.serving.video.clips import moving, y4m

LIMITS = FrameLimits(max_pixels=10**6, min_side=2)


def _pixels(items: list[Item]) -> list[np.ndarray]:
    return [item.frame.pixels for item in items if isinstance(item, Timed)]


def test_what_is_written_is_read_again_within_rounding() -> None:
    frames = moving(3)
    found = _pixels(list(Y4mSource(io.BytesIO(y4m(frames)), limits=LIMITS)))
    assert len(found) == 3
    assert max(int(np.abs(a.astype(int) - b.pixels).max()) for a, b in zip(found, frames, strict=True)) <= 2


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    chroma=st.sampled_from(["420", "422", "444", "mono"]),
    full=st.booleans(),
    level=st.integers(0, 255),
)
def test_a_grey_frame_of_any_size_and_chroma_stays_grey(
    height: int, width: int, chroma: str, full: bool, level: int
) -> None:
    header = Y4mHeader(width, height, Fraction(25), chroma, full)
    grey = np.full((height, width, 3), level, np.uint8)
    data = from_rgb(grey, header)
    assert len(data) == header.frame_bytes
    assert np.abs(to_rgb(data, header).astype(int) - level).max() <= 1


def test_ffmpeg_reads_the_colours_that_were_written(tmp_path: Path) -> None:
    ffmpeg = require("ffmpeg")
    red = Frame(np.full((32, 48, 3), (200, 40, 90), np.uint8))
    (tmp_path / "red.y4m").write_bytes(y4m([red], chroma="420"))
    command = [ffmpeg, "-v", "error", "-i", str(tmp_path / "red.y4m"), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(32, 48, 3)
    assert np.abs(pixels.astype(int) - red.pixels).max() <= 3


def test_a_line_break_in_the_rate_or_size_is_no_surprise() -> None:
    header = Y4mHeader.parse(b"YUV4MPEG2 W8 H6 F30000:1001 Ip A1:1 C422 XYSCSS=422 XCOLORRANGE=FULL")
    assert header == Y4mHeader(8, 6, Fraction(30000, 1001), "422", True)


@pytest.mark.parametrize(("name", "chroma"), [(b"420MPEG2", "420"), (b"422", "422"), (b"444", "444")])
def test_chroma_may_be_told_by_the_older_word(name: bytes, chroma: str) -> None:
    """FFmpeg reads it where the newer one is missing; here such a stream of 4:4:4 was cut into frames of 4:2:0."""
    assert Y4mHeader.parse(b"YUV4MPEG2 W8 H6 F25:1 XYSCSS=" + name).chroma == chroma
    assert Y4mHeader.parse(b"YUV4MPEG2 W8 H6 F25:1 Cmono XYSCSS=" + name).chroma == "mono"


def test_the_shape_of_a_pixel_and_the_rate_of_a_clock_are_read_and_written() -> None:
    header = Y4mHeader.parse(b"YUV4MPEG2 W8 H6 F24000:1 I? A64:45 C420mpeg2")
    assert header == Y4mHeader(8, 6, Fraction(24000), pixel_aspect=Fraction(64, 45))
    assert Y4mHeader.parse(header.line().strip()) == header
    assert Y4mHeader.parse(b"YUV4MPEG2 W8 H6 F25:1 A0:0").pixel_aspect == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"RIFFxxxx", "no y4m stream"),
        (b"YUV4MPEG2 H6 F25:1", "width"),
        (b"YUV4MPEG2 W8 H6 F25:1 C420p10", "420p10 has more than 8 bits"),
        (b"YUV4MPEG2 W8 H6 F25:1 C420p9", "420p9 has more than 8 bits"),
        (b"YUV4MPEG2 W8 H6 F25:1 C444p16", "444p16 has more than 8 bits"),
        (b"YUV4MPEG2 W8 H6 F25:1 Cmono9", "mono9 has more than 8 bits"),
        (b"YUV4MPEG2 W8 H6 F25:1 Cmono16", "mono16 has more than 8 bits"),
        (b"YUV4MPEG2 W8 H6 F25:1 C444alpha", "444alpha has alpha"),
        (b"YUV4MPEG2 W8 H6 F25:1 It C420", "interlaced"),
        (b"YUV4MPEG2 W8 H6 F25:1 Ib C420", "interlaced"),
        (b"YUV4MPEG2 W8 H6 F25:1 Im C420", "interlaced"),
        (b"YUV4MPEG2 W8 H6 F25:1 C411", "not read"),
        (b"YUV4MPEG2 W8 H6 F25:1 XYSCSS=411", "not read"),
        (b"YUV4MPEG2 W8 H6 F25:1 XYSCSS=444P10", "444p10 has more than 8 bits"),
        (b"YUV4MPEG2 W0 H6 F25:1", "cannot be"),
    ],
)
def test_a_header_that_cannot_be_used_says_why(line: bytes, why: str) -> None:
    with pytest.raises(VideoError, match=why):
        Y4mHeader.parse(line)


def test_another_file_than_y4m_is_told_how_to_come_in() -> None:
    """Most have no line break in their first bytes, and were told that a line did not end."""
    with pytest.raises(VideoError, match=r"does not begin with YUV4MPEG2.* -f yuv4mpegpipe"):
        Y4mSource(io.BytesIO(b"\0\0\0\x20ftypisom" + bytes(2000)), limits=LIMITS)


def test_a_stream_that_ends_inside_a_frame_is_an_error_after_its_whole_frames() -> None:
    source = iter(Y4mSource(io.BytesIO(y4m(moving(2))[:-10]), limits=LIMITS))
    assert isinstance(next(source), Timed)
    with pytest.raises(VideoError, match="ends inside frame 1"):
        next(source)


@pytest.mark.parametrize("is_file", [True, False])
def test_a_stream_without_a_frame_is_no_clip(is_file: bool) -> None:
    """What came of it was an empty answer with status 200, and a traceback of the command."""
    header = b"YUV4MPEG2 W32 H16 F25:1\n"
    with pytest.raises(VideoError, match="no frames"):
        list(Y4mSource(io.BytesIO(header), limits=LIMITS, length=len(header) if is_file else None))


@pytest.mark.parametrize("size", [b"W60000 H60000", b"W8 H15", b"W9000 H900", b"W1700 H100"])
def test_frames_beyond_the_limits_are_refused_before_any_is_read(size: bytes) -> None:
    header = b"YUV4MPEG2 " + size + b" F25:1\n"
    stream = io.BytesIO(header + b"FRAME\n")
    with pytest.raises((TooLarge, InvalidFrame)):
        Y4mSource(stream, limits=FrameLimits())
    assert stream.tell() == len(header)


@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_raise_nothing_but_a_video_error(tail: bytes) -> None:
    try:
        items = list(Y4mSource(io.BytesIO(b"YUV4MPEG2 W4 H4 F25:1\n" + tail), limits=LIMITS))
    except VideoError:
        return
    assert all(isinstance(item, Timed) for item in items)


def test_the_number_of_frames_follows_from_the_length_of_a_file() -> None:
    data = y4m(moving(7))
    assert Y4mSource(io.BytesIO(data), limits=LIMITS, length=len(data)).info.frames == 7


def test_a_stream_that_went_through_a_text_pipe_is_told() -> None:
    """ "chroma 420jpeg is not read" was the answer, whose last character nobody sees."""
    with pytest.raises(VideoError, match="sent as text: its lines end in CR LF"):
        Y4mSource(io.BytesIO(b"YUV4MPEG2 W64 H48 F25:1 C420jpeg\r\nFRAME\r\n" + bytes(4608)), limits=LIMITS)
