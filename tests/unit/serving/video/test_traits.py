"""What describes a picture goes through: containers in, containers out, one property after the other."""

from __future__ import annotations

import re
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")

from av.bitstream import BitStreamFilterContext  # noqa: E402

from service.core.types import Frame  # noqa: E402
from service.serving.video.clip import VideoError  # noqa: E402
from service.serving.video.files import open_sink, open_source  # noqa: E402
from tests.unit.serving.video.films import LIMITS, Film, copy, pixels, probe, stream, write  # noqa: E402

INPUTS = (".mp4", ".mov", ".mkv", ".avi", ".ts")
OUTPUTS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".y4m")
#: PAL television shown 16:9.
WIDE = Fraction(64, 45)


def _about(times: list[float], wanted: list[float]) -> bool:
    return len(times) == len(wanted) and max(abs(a - b) for a, b in zip(times, wanted, strict=True)) < 0.002


@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("target", OUTPUTS)
def test_the_shape_of_a_pixel_is_kept(tmp_path: Path, source: str, target: str) -> None:
    film = write(tmp_path / f"in{source}", Film(aspect=WIDE))
    notes = copy(film, tmp_path / f"out{target}")
    found = probe(tmp_path / f"out{target}")
    if target == ".webm":
        # PyAV cannot write WebM's aspect: the picture is as wide as it was, and that is told.
        assert (found.size, found.aspect) == ((68, 32), Fraction(1))
        assert notes == ("pixels of 64:45 are made square: 68x32",)
    else:
        assert (found.size, found.aspect, notes) == ((48, 32), WIDE, ())


@pytest.mark.parametrize("aspect", [Fraction(30), Fraction(1, 30)])
def test_pixels_that_would_become_a_huge_picture_are_not_made_square(tmp_path: Path, aspect: Fraction) -> None:
    """A few kilobytes made the encoder of WebM take memory for pictures 30 times as wide as the clip's."""
    film = write(tmp_path / "in.mp4", Film(aspect=aspect))
    reader = open_source(str(film), limits=LIMITS)
    with pytest.raises(VideoError, match=r"are not made square.*write \.mp4"):
        open_sink(str(tmp_path / "out.webm"), reader, reader.info.width, reader.info.height)
    reader.close()


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".y4m"])
def test_y4m_and_streamed_answers_keep_the_shape_of_a_pixel(tmp_path: Path, target: str) -> None:
    copy(write(tmp_path / "in.mp4", Film(aspect=WIDE)), tmp_path / "mid.y4m")
    stream(tmp_path / "mid.y4m", tmp_path / f"out{target}")
    assert probe(tmp_path / f"out{target}").aspect == WIDE


@pytest.mark.parametrize("source", [".mp4", ".mkv"])
@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ((1, 1, 1, 1), ("tv", "bt709", "bt709", "bt709")),
        ((6, 6, 6, 1), ("tv", "smpte170m", "smpte170m", "smpte170m")),
        ((5, 6, 5, 1), ("tv", "bt470bg", "bt470bg", "smpte170m")),
        ((12, 13, 1, 2), ("pc", "bt709", "smpte432", "iec61966-2-1")),
        ((9, 1, 9, 1), ("tv", "bt2020nc", "bt2020", "bt709")),
    ],
)
def test_colours_keep_their_names_and_values(
    tmp_path: Path, source: str, target: str, tags: tuple[int, int, int, int], names: tuple[str, ...]
) -> None:
    plain = Frame(np.full((32, 48, 3), (30, 140, 220), np.uint8))
    film = write(tmp_path / f"in{source}", Film([plain] * 3, tags=tags))
    before = pixels(film)[0]
    copy(film, tmp_path / f"out{target}")
    found = probe(tmp_path / f"out{target}").colours
    if target == ".webm":
        names = (*names[:2], *found[2:])  # VP9's own header names range and matrix
    assert found == names
    assert np.abs(pixels(tmp_path / f"out{target}")[0].astype(int) - before).max() <= 4


def test_colours_that_no_matrix_here_shows_right_are_refused_by_name(tmp_path: Path) -> None:
    film = write(tmp_path / "in.mkv", Film(pix_fmt="yuv444p", tags=(1, 1, 8, 1), coded=6))
    with pytest.raises(VideoError, match="coded as YCgCo, which is not read; convert them first: ffmpeg "):
        copy(film, tmp_path / "out.mp4")


def test_an_untagged_film_of_720_lines_is_read_and_written_by_one_rule(tmp_path: Path) -> None:
    green = Frame(np.full((720, 64, 3), (40, 180, 60), np.uint8))
    film = write(tmp_path / "in.mp4", Film([green] * 2, tags=(2, 2, 2, 0), coded=1))
    assert probe(film).colours[1] == "unknown"
    copy(film, tmp_path / "out.y4m")
    copy(film, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").colours[1] == "bt709"
    for path in (film, tmp_path / "out.mp4", tmp_path / "out.y4m"):
        assert np.abs(pixels(path)[0].astype(int) - green.pixels).max() <= 4


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
def test_the_last_frame_stays_as_long_as_it_did(tmp_path: Path, target: str) -> None:
    film = write(tmp_path / "in.mp4", Film(last=3000))
    copy(film, tmp_path / f"out{target}")
    assert probe(tmp_path / f"out{target}").duration == pytest.approx(3.7, abs=0.01)


def test_a_streamed_film_is_as_long_as_it_was(tmp_path: Path) -> None:
    stream(write(tmp_path / "in.mp4", Film(last=3000)), tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(3.7, abs=0.01)


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".avi", ".webm"])
def test_every_container_gets_the_films_rate(tmp_path: Path, target: str) -> None:
    gap = tuple(time for time in range(0, 1100, 100) if not 300 <= time < 600)
    copy(write(tmp_path / "in.mp4", Film(times=gap)), tmp_path / f"out{target}")
    found = probe(tmp_path / f"out{target}")
    assert found.rate == 10
    assert found.duration == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("source", INPUTS)
def test_frames_are_shown_when_they_were(tmp_path: Path, source: str) -> None:
    film = Film(options=(("bf", "2"), ("preset", "ultrafast"), ("crf", "4"), ("x264-params", "bframes=2:b-adapt=0")))
    copy(write(tmp_path / f"in{source}", film), tmp_path / "out.mp4")
    assert _about(probe(tmp_path / "out.mp4").times, [k / 10 for k in range(8)])
    shown, wanted = pixels(tmp_path / "out.mp4"), film.frames
    for k, picture in enumerate(shown):
        errors = [np.abs(picture.astype(int) - frame.pixels).mean() for frame in wanted]
        assert int(np.argmin(errors)) == k


@pytest.mark.parametrize("source", [".mp4", ".mov"])
def test_y4m_says_that_it_holds_no_times_where_they_are_uneven(tmp_path: Path, source: str) -> None:
    even = write(tmp_path / f"even{source}", Film())
    assert copy(even, tmp_path / "out.y4m") == ()
    uneven = write(tmp_path / f"uneven{source}", Film(times=(0, 100, 200, 300, 900, 1000, 1100, 1200)))
    [note] = copy(uneven, tmp_path / "out.y4m")
    assert re.fullmatch(r"frames come at one rate, [67].\d\d a second, as y4m holds no times", note)


def test_an_avi_with_empty_places_keeps_its_pauses(tmp_path: Path) -> None:
    gap = tuple(time for time in range(0, 1100, 100) if not 300 <= time < 600)
    copy(write(tmp_path / "in.mp4", Film(times=gap)), tmp_path / "mid.avi")
    copy(tmp_path / "mid.avi", tmp_path / "out.mp4")
    assert _about(probe(tmp_path / "out.mp4").times, [time / 1000 for time in gap])


def test_an_avi_of_empty_places_has_no_more_frames_than_it_shows(tmp_path: Path) -> None:
    """Half of a film copied into it is empty: it was limited as if of twice its frames, and y4m ran twice as fast."""
    source = write(tmp_path / "in.mp4", Film(times=tuple(range(0, 1600, 200)), last=200))
    with av.open(str(source)) as reader, av.open(str(tmp_path / "copied.avi"), "w") as writer:
        film = reader.streams.video[0]
        track = writer.add_stream_from_template(film)
        track.time_base = Fraction(1, 10)
        annex_b = BitStreamFilterContext("h264_mp4toannexb", film, track)
        for packet in reader.demux(film):
            for copied in annex_b.filter(packet if packet.dts is not None else None):
                copied.stream = track
                writer.mux(copied)
    clip = open_source(str(tmp_path / "copied.avi"), limits=LIMITS)
    assert (clip.info.frames, round(clip.info.rate)) == (8, 5)
    clip.close()


def test_a_broadcast_that_began_hours_ago_begins_at_0(tmp_path: Path) -> None:
    copy(write(tmp_path / "in.ts", Film(start=36_000_000)), tmp_path / "out.mp4")
    assert _about(probe(tmp_path / "out.mp4").times, [k / 10 for k in range(8)])


@pytest.mark.parametrize("sounds", [(), (("aac", 44100, ""),), (("mp2", 44100, ""), ("aac", 48000, ""))])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize("how", [copy, stream])
def test_recordings_that_were_joined_follow_each_other(
    tmp_path: Path, sounds: tuple[tuple[str, int, str], ...], target: str, how: object
) -> None:
    parts = [write(tmp_path / f"{start}.ts", Film(start=start, sounds=sounds)) for start in (1400, 500, 90_000)]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    how(tmp_path / "in.ts", tmp_path / f"out{target}")  # type: ignore[operator]
    times = probe(tmp_path / f"out{target}").times
    # Where there is sound it goes on without a gap, and it is not a whole number of frames long.
    steps = np.diff(times)
    assert len(times) == 24
    assert np.abs(steps - 0.1).max() < (0.03 if sounds else 0.002)


def test_a_broadcast_that_turns_wide_is_refused_where_it_does(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{aspect.numerator}.ts", Film(aspect=aspect)) for aspect in (Fraction(16, 15), WIDE)]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    told = r"the shape of its pixels changes 0\.[78]\d s after the clip's start; cut it there"
    with closing(open_source(str(tmp_path / "in.ts"), limits=LIMITS)) as reader, pytest.raises(VideoError, match=told):
        list(reader)


def _combing(picture: np.ndarray) -> float:
    rows = picture[16:48, :, 0].astype(int)
    return float(np.abs(rows[:-2] - 2 * rows[1:-1] + rows[2:]).mean())


def test_interlaced_frames_come_out_whole(tmp_path: Path) -> None:
    frames = []
    for k in range(6):
        picture = np.full((64, 96, 3), 40, np.uint8)
        for field in (0, 1):  # each field is a moment of its own: a bar moves on between them
            left = 8 * k + 4 * field
            picture[field::2, left : left + 16] = 200
        frames.append(Frame(picture))
    film = Film(frames, options=(("x264-params", "tff=1"), ("crf", "1"), ("preset", "ultrafast")))
    source = write(tmp_path / "in.mp4", film)
    shown = pixels(source)
    copy(source, tmp_path / "out.mp4")
    assert _about(probe(tmp_path / "out.mp4").times, [k / 10 for k in range(6)])
    assert len(shown) == 6
    assert _combing(shown[2]) < _combing(frames[2].pixels) / 3


@pytest.mark.parametrize(("pix_fmt", "codec"), [("yuv420p10le", "libx264"), ("yuv422p10le", "libx264")])
def test_ten_bits_are_read_as_bright_as_eight(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    levels = [Frame(np.full((32, 48, 3), level, np.uint8)) for level in (0, 64, 128, 200, 255)]
    film = write(tmp_path / "in.mp4", Film(levels, pix_fmt=pix_fmt, codec=codec))
    for shown, level in zip(pixels(film), levels, strict=True):
        assert abs(round(float(shown.mean())) - int(level.pixels[0, 0, 0])) <= 1


def test_transparent_films_are_refused_as_transparent_pictures_are(tmp_path: Path) -> None:
    clear = np.zeros((32, 48, 4), np.uint8)
    clear[:, 24:] = 255
    for name, codec, pix_fmt in (("in.mov", "qtrle", "argb"), ("in.mkv", "ffv1", "yuva420p")):
        with av.open(str(tmp_path / name), "w") as container:
            video = container.add_stream(codec, rate=10)
            video.width, video.height, video.pix_fmt = 48, 32, pix_fmt
            for _ in range(2):
                container.mux(video.encode(av.VideoFrame.from_ndarray(clear, format="rgba").reformat(format=pix_fmt)))
            container.mux(video.encode(None))
        with pytest.raises(VideoError, match="transparent"):
            open_source(str(tmp_path / name), limits=LIMITS)


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva422p", "yuva444p", "yuva420p10le", "gbrap12le"])
def test_an_opaque_channel_is_no_matter_whatever_the_scaler_makes_of_it(tmp_path: Path, pix_fmt: str) -> None:
    """FFmpeg's scaler makes 254 of yuva422p's alpha, and leaves the last columns of yuva420p's as they happen to be."""
    for name, hole in (("opaque.mkv", False), ("hole.mkv", True)):
        picture = av.VideoFrame(50, 32, pix_fmt)
        for plane in picture.planes:
            plane.update(b"\x80\x01" * (plane.buffer_size // 2))
        alpha, bits = picture.planes[3], picture.format.components[3].bits
        levels = np.full(
            (32, alpha.line_size * 8 // (8 if bits == 8 else 16)), 2**bits - 1, "u1" if bits == 8 else "<u2"
        )
        levels[31, 49] -= hole
        alpha.update(levels.tobytes())
        with av.open(str(tmp_path / name), "w") as container:
            video = container.add_stream("ffv1", rate=10)
            video.width, video.height, video.pix_fmt = 50, 32, pix_fmt
            container.mux(video.encode(picture) + video.encode(None))
    open_source(str(tmp_path / "opaque.mkv"), limits=LIMITS).close()
    with pytest.raises(VideoError, match="transparent"):
        open_source(str(tmp_path / "hole.mkv"), limits=LIMITS)


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".mov", ".avi"])
def test_odd_sides_become_even_so_that_browsers_play_them(tmp_path: Path, target: str) -> None:
    frames = [Frame(frame.pixels[:31, :47].copy()) for frame in Film().frames]
    film = write(tmp_path / "in.mkv", Film(frames, codec="ffv1", pix_fmt="yuv444p", options=()))
    notes = copy(film, tmp_path / f"out{target}")
    found = probe(tmp_path / f"out{target}")
    assert (found.size, found.pix_fmt) == ((48, 32), "yuv420p")
    assert notes == ("47x31 is written as 48x32: browsers play even sides only",)


@pytest.mark.parametrize("target", [".webm", ".y4m"])
def test_odd_sides_stay_where_the_format_takes_them(tmp_path: Path, target: str) -> None:
    frames = [Frame(frame.pixels[:31, :47].copy()) for frame in Film().frames]
    film = write(tmp_path / "in.mkv", Film(frames, codec="ffv1", pix_fmt="yuv444p", options=()))
    assert copy(film, tmp_path / f"out{target}") == ()
    assert probe(tmp_path / f"out{target}").size == (47, 31)
