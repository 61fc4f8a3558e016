"""When frames are shown whose container says it in a roundabout way, and which way up those of joined films are."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image, ImageOps

from service.serving.video.clip import Timed
from service.serving.video.files import open_source
from tests.unit.serving.video.clips import moving
from tests.unit.serving.video.films import LIMITS, Film, copy, pixels, probe, write


def _times(path: Path) -> list[float]:
    """Seconds at which our reader shows each frame, to the hundredth."""
    reader = open_source(str(path), limits=LIMITS, sound=False)
    times = [round(float(item.pts * reader.info.time_base), 2) for item in reader if isinstance(item, Timed)]
    reader.close()
    return times


def _retimed(source: Path, target: Path, times: Sequence[int], unit: Fraction, pace: int = 50) -> Path:
    """Copy a film's packets, each shown at its time of `times`, in units; they are decoded `pace` apart."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        film = reader.streams.video[0]
        track = writer.add_stream_from_template(film)
        packets = [packet for packet in reader.demux(film) if packet.dts is not None]
        for number, (packet, time) in enumerate(zip(packets, times, strict=True)):
            packet.time_base, packet.pts, packet.duration = unit, time, 0
            packet.dts = min(time, number - len(times) if unit == Fraction(1, 10) else number * pace)
            packet.stream = track
            writer.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_frames_of_one_time_do_not_put_off_those_after_them(tmp_path: Path, suffix: str) -> None:
    """Each put all that followed off by a frame: after three, a film was three frames behind its sound."""
    source = write(tmp_path / "in.mp4", Film())
    twice = _retimed(source, tmp_path / f"twice{suffix}", [0, 100, 100, 200, 300, 300, 400, 500], Fraction(1, 1000))
    start, *times = _times(twice)
    assert [round(time - start, 2) for time in times] == [0.1, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5]
    copy(twice, tmp_path / "out.mp4")
    assert len(probe(tmp_path / "out.mp4").times) == 8


def test_a_last_frame_of_a_time_that_was_is_not_over_at_once(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", Film())
    twice = _retimed(source, tmp_path / "twice.ts", [0, 50, 100, 150, 200, 250, 300, 300], Fraction(1, 1000), pace=40)
    copy(twice, tmp_path / "out.mp4")
    assert 0.32 < probe(tmp_path / "out.mp4").duration < 0.36


def test_frames_of_one_time_have_room_where_a_unit_is_a_frame(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", Film())
    twice = _retimed(source, tmp_path / "twice.mp4", [0, 1, 1, 2, 3, 3, 4, 5], Fraction(1, 10))
    start, *times = _times(twice)
    assert [round(time - start, 2) for time in times] == [0.1, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5]


def test_times_that_stand_still_for_good_are_not_believed(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", Film(moving(24, 32, 48), tuple(range(0, 2400, 100))))
    stuck = _retimed(source, tmp_path / "stuck.ts", [100] * 24, Fraction(1, 1000), pace=4)
    times = _times(stuck)
    assert times == sorted(times)
    assert times[-1] - times[17] > 0.01


def _with_edits(film: bytes, parts: Sequence[tuple[int, int]]) -> bytes:
    """Have an MP4 whose index is its end show these parts of itself: (milliseconds of its start, of its length)."""

    def size(at: int) -> int:
        return int.from_bytes(film[at : at + 4], "big")

    moov = film.rindex(b"moov") - 4
    track, header, media = (film.index(name, moov) - 4 for name in (b"trak", b"tkhd", b"mdhd"))
    (scale,) = struct.unpack_from(">I", film, media + 20)
    place = header + size(header)
    end = place + size(place) if film[place + 4 : place + 8] == b"edts" else place
    entries = b"".join(struct.pack(">IiI", length, start * scale // 1000, 1 << 16) for start, length in parts)
    edits = struct.pack(">I4sI4sII", 24 + len(entries), b"edts", 16 + len(entries), b"elst", 0, len(parts)) + entries
    data = bytearray(film[:place] + edits + film[end:])
    for box in (moov, track):
        struct.pack_into(">I", data, box, size(box) + len(edits) - (end - place))
    return bytes(data)


@pytest.mark.parametrize("parts", [((0, 300), (500, 300)), ((400, 200), (0, 300)), ((200, 200), (200, 200))])
def test_the_parts_of_an_edit_list_follow_each_other(tmp_path: Path, parts: tuple[tuple[int, int], ...]) -> None:
    """What is decoded for the second part and not shown was taken for a jump of the clock: seconds stood still."""
    source = write(tmp_path / "in.mp4", Film())
    whole = pixels(source)
    edited = tmp_path / "edited.mp4"
    edited.write_bytes(_with_edits(source.read_bytes(), parts))
    order = [number for start, length in parts for number in range(start // 100, (start + length) // 100)]
    assert _times(edited) == [place / 10 for place in range(len(order))]
    for shown, number in zip(pixels(edited), order, strict=True):
        assert np.array_equal(shown, whole[number])


def _turned(source: Path, target: Path, angle: int) -> Path:
    """Copy an H.264 film whose own stream says that it is turned."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        film = reader.streams.video[0]
        track = writer.add_stream_from_template(film)
        turning = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:rotate={angle}", film)
        for packet in reader.demux(film):
            for turned in turning.filter(packet) if packet.dts is not None else []:
                turned.stream = track
                writer.mux(turned)
    return target


def test_each_of_two_joined_films_is_shown_upright(tmp_path: Path) -> None:
    """The first frame's way up was taken for all: the second recording stood on its head."""
    upright = write(tmp_path / "upright.ts", Film())
    turned = _turned(upright, tmp_path / "turned.ts", 180)
    whole = pixels(upright)
    for name, films, turns in (("a.ts", (upright, turned), (0, 2)), ("b.ts", (turned, upright), (2, 0))):
        joined = tmp_path / name
        joined.write_bytes(b"".join(film.read_bytes() for film in films))
        shown = pixels(joined)
        assert len(shown) == 16
        for number, picture in enumerate(shown):
            assert np.array_equal(picture, np.rot90(whole[number % 8], turns[number // 8])), (name, number)


def test_two_joined_interlaced_films_of_two_sizes_are_both_read(tmp_path: Path) -> None:
    """It was called damaged, "Operation not permitted"; who shows the frames says that their size changes."""
    options = (("x264-params", "tff=1"), ("preset", "ultrafast"))
    small = write(tmp_path / "small.ts", Film(moving(6, 64, 96), options=options))
    large = write(tmp_path / "large.ts", Film(moving(6, 96, 128), options=options))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    reader: Any = open_source(str(joined), limits=LIMITS)
    assert [item.frame.pixels.shape[:2] for item in reader] == [(64, 96)] * 6 + [(96, 128)] * 6
    reader.close()


@pytest.mark.parametrize("orientation", [1, 2, 3, 6])
def test_motion_jpeg_of_a_camera_is_shown_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    """PyAV knows no side data of that kind and told none at all: each such film was an internal error."""
    picture = Image.fromarray(moving(1, 32, 48)[0].pixels)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        video: Any = container.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuvj444p"
        for number in range(2):
            packet = av.Packet(file.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 10), video
            container.mux(packet)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    for shown in pixels(tmp_path / "in.avi"):
        assert shown.shape == wanted.shape
        assert np.abs(shown.astype(int) - wanted).mean() < 3
