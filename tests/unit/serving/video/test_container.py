from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="PyAV is not installed")

from service.core.errors import InvalidFrame, TooLarge  # noqa: E402
from service.core.types import Frame  # noqa: E402
from service.imaging.codec import FrameLimits  # noqa: E402
from service.serving.video.clip import Passed, Timed, VideoError  # noqa: E402
from service.serving.video.container_reader import ContainerSource  # noqa: E402
from service.serving.video.files import open_sink, open_source  # noqa: E402
from tests.unit.serving.video.clips import moving, write_mp4  # noqa: E402
from tests.unit.serving.video.films import Film, write  # noqa: E402

LIMITS = FrameLimits(max_pixels=10**6, min_side=2)
#: Uneven on purpose: what a phone or a screen recorder writes.
TIMES, BASE = [0, 100, 250, 300, 700, 710], Fraction(1, 1000)


def _copy(source: Path, target: Path, *, sound: bool = True) -> None:
    opened = open_source(str(source), limits=LIMITS, sound=sound)
    sink = open_sink(str(target), opened, opened.info.width, opened.info.height)
    for item in opened:
        sink.write(item)
    sink.close()
    opened.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_times_are_kept_to_the_unit(tmp_path: Path, suffix: str) -> None:
    write_mp4(tmp_path / "in.mp4", moving(6), TIMES, BASE)
    _copy(tmp_path / "in.mp4", tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    assert shown == pytest.approx([at / 1000 for at in TIMES], abs=0.0011)


def test_sound_is_copied_packet_by_packet(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(12), [100 * k for k in range(12)], BASE, sound=True)
    _copy(tmp_path / "in.mp4", tmp_path / "out.mp4")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert len(packets(tmp_path / "in.mp4")) > 20
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "in.mp4")


def test_sound_can_be_left_out(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(4), [0, 100, 200, 300], BASE, sound=True)
    _copy(tmp_path / "in.mp4", tmp_path / "out.mp4", sound=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_colours_survive_reading_and_writing(tmp_path: Path) -> None:
    plain = Frame(np.full((64, 96, 3), (30, 140, 220), np.uint8))
    write_mp4(tmp_path / "in.mp4", [plain] * 3, [0, 100, 200], BASE)
    _copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    source = ContainerSource(tmp_path / "out.mp4", limits=LIMITS)
    found = [item.frame.pixels for item in source if isinstance(item, Timed)]
    source.close()
    assert len(found) == 3
    assert np.abs(found[0].astype(int) - plain.pixels).max() <= 4


def test_a_stopped_run_leaves_no_file_behind(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(3), [0, 100, 200], BASE)
    source = open_source(str(tmp_path / "in.mp4"), limits=LIMITS)
    sink = open_sink(str(tmp_path / "out.mp4"), source, 48, 32)
    sink.write(next(iter(source)))
    sink.give_up()
    source.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_a_playlist_that_names_other_files_is_not_read(tmp_path: Path) -> None:
    write_mp4(tmp_path / "secret.mp4", moving(3), [0, 100, 200], BASE)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    for name in ("list.m3u8", "list.txt"):
        with pytest.raises(VideoError):
            open_source(str(tmp_path / name), limits=LIMITS)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (FrameLimits(max_pixels=2000), "at most 2000 pixels, such as"),
        (FrameLimits(min_side=64), "the shorter side must be at least 64 pixels"),
        (FrameLimits(max_side=40), "the longer side may be at most 40 pixels"),
        (FrameLimits(max_aspect=1.2), "one side may be at most 1.2 times the other"),
    ],
)
def test_frames_beyond_the_limits_are_refused_before_any_is_decoded(
    tmp_path: Path, limits: FrameLimits, message: str
) -> None:
    write_mp4(tmp_path / "in.mp4", moving(2, 32, 64), [0, 100], BASE)
    clip = bytearray((tmp_path / "in.mp4").read_bytes())
    start, end = clip.index(b"mdat") + 4, clip.index(b"moov") - 4
    clip[start:end] = bytes(end - start)  # no frame of it can be decoded
    (tmp_path / "in.mp4").write_bytes(clip)
    with pytest.raises((TooLarge, InvalidFrame), match=message):
        open_source(str(tmp_path / "in.mp4"), limits=limits)


def _muxed_again(source: Path, target: Path, **options: str) -> None:
    with av.open(str(source)) as film, av.open(str(target), "w", container_options=options) as container:
        track = container.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(film.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                container.mux(packet)


def test_a_film_whose_end_was_never_sent_is_refused_before_work_is_begun(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(8), list(range(0, 800, 100)), BASE)
    _muxed_again(tmp_path / "in.mp4", tmp_path / "whole.mp4", movflags="faststart")
    whole = (tmp_path / "whole.mp4").read_bytes()
    open_source(str(tmp_path / "whole.mp4"), limits=LIMITS).close()
    (tmp_path / "cut.mp4").write_bytes(whole[:-9])
    told = f"cut short: it has {len(whole) - 9} bytes, and its index names {len(whole)}; send it whole"
    with pytest.raises(VideoError, match=told):
        open_source(str(tmp_path / "cut.mp4"), limits=LIMITS)


def test_a_film_of_fragments_that_a_crash_left_is_one_of_all_its_whole_frames(tmp_path: Path) -> None:
    write(tmp_path / "in.mp4", Film(options=(("bf", "3"), ("crf", "4"))))
    _muxed_again(tmp_path / "in.mp4", tmp_path / "fragments.mp4", movflags="frag_every_frame+empty_moov")
    # Of the last frame half is there; the frames before it that wait for their turn must not go with it.
    fragments = (tmp_path / "fragments.mp4").read_bytes()
    (tmp_path / "crashed.mp4").write_bytes(fragments[: fragments.rindex(b"mdat") + 12])
    with closing(open_source(str(tmp_path / "crashed.mp4"), limits=LIMITS)) as source:
        assert len(list(source)) == 7


def test_an_encrypted_film_is_called_so_not_damaged(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(3), [0, 100, 200], BASE)
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "01" * 16, "encryption_kid": "02" * 16}
    _muxed_again(tmp_path / "in.mp4", tmp_path / "secret.mp4", **key)
    with pytest.raises(VideoError, match="is encrypted, and no key is known here; send it without its protection"):
        open_source(str(tmp_path / "secret.mp4"), limits=LIMITS)


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4"])
def test_what_is_no_video_is_a_sentence_not_a_traceback(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(VideoError, match=r"cannot read|no video"):
        open_source(str(tmp_path / name), limits=LIMITS)


@pytest.mark.parametrize(
    ("format", "name"), [("GIF", "a GIF"), ("PNG", "a PNG"), ("WEBP", "a WebP"), ("JPEG", "a JPEG")]
)
def test_a_picture_or_animation_is_named(tmp_path: Path, format: str, name: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "in.mp4", format)
    with pytest.raises(VideoError, match=f"this is {name}"):
        open_source(str(tmp_path / "in.mp4"), limits=LIMITS)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "this is a WAV; it has no pictures, only sound"),
        (b"ID3\4\0\0\0", "this is an MP3; it has no pictures, only sound"),
        (b"FWS\6\0\0\0\0", "this is a Flash film"),
        (b"II*\0\x08\0\0\0", "this is TIFF; MP4, .* are read"),
        (b"PK\3\4\0\0", "this is a ZIP file; MP4, .* are read"),
        (b"<!DOCTYPE html>", "this is an HTML page; MP4, .* are read"),
        (b'{"url": "film.mp4"}', "this is JSON; MP4, .* are read"),
        (b"RIFF\0\0\0\0AVI junk", r"video that can be read: MP4, .* are read \("),
    ],
)
def test_what_is_no_film_is_named(tmp_path: Path, start: bytes, told: str) -> None:
    (tmp_path / "in.mp4").write_bytes(start + bytes(500))
    with pytest.raises(VideoError, match=told):
        open_source(str(tmp_path / "in.mp4"), limits=LIMITS)


@pytest.mark.parametrize(("brand", "name"), [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")])
def test_a_still_picture_that_opens_as_a_film_is_named(tmp_path: Path, brand: bytes, name: str) -> None:
    """FFmpeg reads the items of a phone's photo as films of one frame, each tile one."""
    write_mp4(tmp_path / "in.mp4", moving(3), [0, 100, 200], BASE)
    film = (tmp_path / "in.mp4").read_bytes()
    branded = film[:8] + brand + film[12:]
    (tmp_path / "film.mp4").write_bytes(branded)
    open_source(str(tmp_path / "film.mp4"), limits=LIMITS).close()
    (tmp_path / "still.heic").write_bytes(branded.replace(b"moov", b"meta"))
    with pytest.raises(VideoError, match=f"this is {name}, a still picture; MP4, .* are read"):
        open_source(str(tmp_path / "still.heic"), limits=LIMITS)
    with (tmp_path / "still.heic").open("rb") as file, pytest.raises(VideoError, match=name):
        ContainerSource(file, limits=LIMITS)


def test_a_film_whose_recording_was_not_ended_has_no_index(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(8), list(range(0, 800, 100)), BASE)
    whole = (tmp_path / "in.mp4").read_bytes()
    for stop in (whole.index(b"moov") - 4, whole.index(b"mdat") + 100):
        (tmp_path / "cut.mp4").write_bytes(whole[:stop])
        with pytest.raises(
            VideoError, match="this MP4 file has no index, as its recording or its sending was not ended"
        ):
            open_source(str(tmp_path / "cut.mp4"), limits=LIMITS)


@pytest.mark.parametrize(
    ("format", "codec", "name"),
    [
        ("h264", "libx264", "H.264 or HEVC without a container; .*-c copy out.mkv"),
        ("m4v", "mpeg4", "MPEG-4 video without a container"),
        ("mpeg2video", "mpeg2video", "MPEG video without a container"),
        ("mxf", "mpeg2video", "an MXF file; .*-c copy out.mkv"),
        ("nut", "ffv1", "a NUT file"),
    ],
)
def test_a_film_in_a_container_that_is_not_read_is_named_with_a_way_out(
    tmp_path: Path, format: str, codec: str, name: str
) -> None:
    """FFmpeg's own word for a format that is not on the list was "Invalid argument"."""
    _write(tmp_path / "in.mp4", format, codec)
    with pytest.raises(VideoError, match=rf"this is {name}"):
        open_source(str(tmp_path / "in.mp4"), limits=LIMITS)


def test_what_is_no_kind_of_film_is_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("this is no video")
    with pytest.raises(VideoError, match=r"MP4, Matroska, WebM, .* are read"):
        open_source(str(tmp_path / "in.mp4"), limits=LIMITS)


def test_ivf_as_encoders_of_vp9_and_av1_write_it_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "in.ivf", "ivf", "libvpx")
    opened = open_source(str(tmp_path / "in.ivf"), limits=LIMITS)
    assert len([item for item in opened if isinstance(item, Timed)]) == 4
    opened.close()


def test_a_film_is_cropped_as_its_header_says(tmp_path: Path) -> None:
    """FFmpeg left eight hidden columns in sight: it crops to whole words of memory unless told otherwise."""
    _write(tmp_path / "in.mkv", "matroska", "libx264", {"x264-params": "crop-rect=8,4,8,4"})
    opened = open_source(str(tmp_path / "in.mkv"), limits=LIMITS)
    assert (opened.info.width, opened.info.height) == (48, 40)
    opened.close()


def _write(path: Path, format: str, codec: str, options: dict[str, str] | None = None) -> None:
    """Four frames by `codec` in a container of `format`."""
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in moving(4, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_an_ending_that_cannot_be_written_lists_those_that_can(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(2), [0, 100], BASE)
    source = open_source(str(tmp_path / "in.mp4"), limits=LIMITS)
    with pytest.raises(VideoError, match=r"\.y4m, \.mp4"):
        open_sink(str(tmp_path / "out.gif"), source, 48, 32)
    source.close()


def test_only_frames_and_sound_come_out(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in.mp4", moving(5), [0, 100, 200, 300, 400], BASE, sound=True)
    source = ContainerSource(tmp_path / "in.mp4", limits=LIMITS)
    items = list(source)
    source.close()
    assert sum(isinstance(item, Timed) for item in items) == 5
    assert sum(isinstance(item, Passed) for item in items) > 5
