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
from av.stream import Disposition
from PIL import Image, ImageOps

from service.core.types import Frame
from service.serving.video.clip import Timed, VideoError
from service.serving.video.container_reader import ContainerSource
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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_broadcast_of_few_frames_is_read_whole(tmp_path: Path, count: int) -> None:
    """FFmpeg took those of two and three frames for program streams, and found nothing in them."""
    grey = Frame(np.full((48, 64, 3), 90, np.uint8))
    path = write(tmp_path / "few.ts", Film([grey] * count, codec="mpeg4", options=()))
    for file in path, io.BytesIO(path.read_bytes()):
        reader = ContainerSource(file, limits=LIMITS, sound=False)
        times = [float(item.pts * reader.info.time_base) for item in reader if isinstance(item, Timed)]
        reader.close()
        assert [round(time - times[0], 2) for time in times] == [k / 10 for k in range(count)]


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


@pytest.mark.parametrize("parts", [((0, 300), (600, 400)), ((300, 500), (1500, 500), (3000, 500))])
@pytest.mark.parametrize("key_distance", [40, 10, 5])
def test_what_is_behind_a_cut_of_a_film_with_b_frames_follows_at_once(
    tmp_path: Path, key_distance: int, parts: tuple[tuple[int, int], ...]
) -> None:
    """FFmpeg gave it up to two frames too late, or the times of the frames in front of the cut once more."""
    coding = (("bf", "2"), ("g", str(key_distance)), ("crf", "4"), ("x264-params", "b-adapt=0:scenecut=0"))
    source = write(tmp_path / "in.mp4", Film(moving(40, 32, 48), tuple(range(0, 4000, 100)), options=coding))
    delay = _first_time(source.read_bytes())
    edited = tmp_path / "edited.mp4"
    edited.write_bytes(_with_edits(source.read_bytes(), [(start + delay, length) for start, length in parts]))
    whole = pixels(source)
    order = [number for start, length in parts for number in range(start // 100, (start + length) // 100)]
    assert _times(edited) == [place / 10 for place in range(len(order))]
    for shown, number in zip(pixels(edited), order, strict=True):
        assert np.array_equal(shown, whole[number])


def _first_time(film: bytes) -> int:
    """Return the time that its edit list gives an MP4's first picture, in milliseconds."""
    scale, place = film.rindex(b"mdhd") + 16, film.rindex(b"elst") + 16
    return 1000 * int.from_bytes(film[place : place + 4], "big") // int.from_bytes(film[scale : scale + 4], "big")


def test_half_a_picture_at_the_end_of_a_cut_film_is_left_out(tmp_path: Path) -> None:
    """What was missing of it was green, or whatever the memory held before."""
    film, file = tmp_path / "in.avi", io.BytesIO()
    Image.fromarray(moving(1, 64, 96)[0].pixels).save(file, "JPEG", quality=95, subsampling=0)
    with av.open(str(film), "w") as container:
        video: Any = container.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuvj444p"
        for number in range(4):
            _mux_jpeg(container, video, file.getvalue(), number)
    data = film.read_bytes()
    film.write_bytes(data[: data.rindex(file.getvalue()) + len(file.getvalue()) // 2])
    assert [frame.shape for frame in pixels(film)] == [(64, 96, 3)] * 3


def _mux_jpeg(container: Any, video: Any, data: bytes, number: int) -> None:
    packet = av.Packet(data)
    packet.pts = packet.dts = number
    packet.time_base, packet.stream, packet.duration = Fraction(1, 10), video, 1
    container.mux(packet)


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_a_cover_before_a_film_of_single_pictures_is_not_the_film(tmp_path: Path, suffix: str) -> None:
    """Not marked as a cover, and coded like the film, it was the film of one frame that came out."""
    path = tmp_path / f"in{suffix}"
    with av.open(str(path), "w") as container:
        streams = {}
        for width, frames in ((16, moving(1, 16, 16)), (48, moving(8, 32, 48))):
            video: Any = container.add_stream("mjpeg", rate=10)
            video.width, video.height, video.pix_fmt = width, frames[0].height, "yuvj444p"
            streams[video] = frames
        for video, frames in streams.items():
            for number, frame in enumerate(frames):
                file = io.BytesIO()
                Image.fromarray(frame.pixels).save(file, "JPEG", subsampling=0)
                _mux_jpeg(container, video, file.getvalue(), number)
    assert [frame.shape for frame in pixels(path)] == [(32, 48, 3)] * 8


def test_a_still_picture_before_a_film_is_not_the_film(tmp_path: Path) -> None:
    """An animated AVIF has both, coded alike; of any film but one of single pictures the first track was taken."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        streams = {}
        for frames in (moving(1, 16, 16), moving(8, 32, 48)):
            video: Any = container.add_stream("libx264", rate=10)
            video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
            streams[video] = frames
        for track, frames in streams.items():
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 10)
                container.mux(track.encode(picture))
            container.mux(track.encode(None))
    assert [frame.shape for frame in pixels(path)] == [(32, 48, 3)] * 8
    assert copy(path, tmp_path / "out.mp4") == ("track 1, a still picture, is left out",)


def test_a_film_without_a_whole_frame_says_what_is_missing(tmp_path: Path) -> None:
    """It was said to have no frames."""
    coding = (("bf", "0"), ("g", "20"), ("x264-params", "intra-refresh=1:scenecut=0"))
    source = write(tmp_path / "in.ts", Film(moving(30, 32, 48), tuple(range(0, 3000, 100)), options=coding))
    packets = source.stat().st_size // 188
    # Cut from the midst, it becomes whole where its first refresh ends; cut after that began, it never does.
    source.write_bytes(source.read_bytes()[packets * 9 // 10 * 188 :])
    with pytest.raises(VideoError, match="no frame of the film becomes whole"):
        open_source(str(source), limits=LIMITS)


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
            _mux_jpeg(container, video, file.getvalue(), number)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    for shown in pixels(tmp_path / "in.avi"):
        assert shown.shape == wanted.shape
        assert np.abs(shown.astype(int) - wanted).mean() < 3


def _two_films(path: Path, shown: Sequence[int]) -> Path:
    """Write films of 64 and of 96 pixels, those of `shown` as what is shown where nobody chooses."""
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("mpeg4", rate=10) for _ in range(2)]
        for number, track in enumerate(tracks):
            track.width, track.height, track.pix_fmt = 64 + 32 * number, 48, "yuv420p"
            track.disposition = Disposition.default if number in shown else Disposition(0)
        for k in range(4):
            for track in tracks:
                picture = av.VideoFrame.from_ndarray(np.full((48, track.width, 3), 20 * k, np.uint8), format="rgb24")
                picture.pts = k
                container.mux(track.encode(picture))
        for track in tracks:
            container.mux(track.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(("shown", "width", "left_out"), [((1,), 96, 1), ((0,), 64, 2), ((0, 1), 64, 2), ((), 64, 2)])
def test_of_two_films_the_one_is_read_that_players_show(
    tmp_path: Path, suffix: str, shown: Sequence[int], width: int, left_out: int
) -> None:
    """The first was, were it switched off and the second the film."""
    reader = ContainerSource(_two_films(tmp_path / f"two{suffix}", shown), limits=LIMITS)
    reader.close()
    assert reader.info.width == width
    assert reader.info.notes == (f"track {left_out}, a second film, is left out",)
