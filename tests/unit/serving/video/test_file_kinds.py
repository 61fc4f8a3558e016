"""What a file's own bytes tell that its decoder does not."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from service.serving.video import file_kinds
from service.serving.video.clip import VideoError


def _record(profile: int, shown_by: int = 0) -> bytes:
    return bytes([1, 0]) + struct.pack(">HB", profile << 9 | 0b1101, shown_by << 4) + bytes(19)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _mp4(profile: int) -> bytes:
    """An index behind the film, as recorders write it."""
    record = _box(b"dvcC", _record(profile))
    return _box(b"ftyp", b"isom" + bytes(4)) + _box(b"mdat", bytes(5 * 2**20)) + _box(b"moov", bytes(500) + record)


def _broadcast(profile: int, shown_by: int = 0, lead: int = 0) -> bytes:
    """A transport stream of three packets, the second one the table of its programme."""
    descriptor = b"\xb0\x05" + _record(profile, shown_by)[:5]
    registration = b"\x05\x04DOVI"
    entry = b"\x06\xe1\x00\xf0" + bytes([len(registration + descriptor)]) + registration + descriptor
    table = b"\x00\x02\xb0" + bytes([13 + len(entry)]) + bytes(5) + b"\xe1\x00\xf0\x00" + entry + bytes(4)
    packets = [
        b"G\x41\x00\x10" + bytes(184),
        b"G\x50\x00\x10" + table.ljust(184, b"\xff"),
        b"G\x01\x00\x10" + bytes(184),
    ]
    return b"".join(bytes(lead) + packet for packet in packets)


def _bluray(profile: int) -> bytes:
    return _broadcast(profile, lead=4)


def _matroska(profile: int) -> bytes:
    return bytes.fromhex("1a45dfa3") + bytes(300) + b"\x41\xe7\x84dvcC\x41\xed\x98" + _record(profile) + bytes(9000)


@pytest.mark.parametrize("film", [_mp4, _matroska, _broadcast, _bluray])
def test_dolby_vision_that_nobody_else_shows_is_refused(tmp_path: Path, film: Callable[[int], bytes]) -> None:
    """Its pictures are coded as IPT, which no tag of them says: they were read by another matrix."""
    file, path = io.BytesIO(film(5)), tmp_path / "film"
    file.seek(7)
    with pytest.raises(VideoError, match="Dolby Vision of profile 5"):
        file_kinds.check_shown_here(file)
    assert file.tell() == 7
    path.write_bytes(film(5))
    with pytest.raises(VideoError, match="Dolby Vision of profile 5"):
        file_kinds.check_shown_here(path)
    # Phones record profile 8, whose pictures are HLG or HDR10 for everybody else.
    for profile in (4, 7, 8):
        file_kinds.check_shown_here(io.BytesIO(film(profile)))


def test_dolby_vision_in_av1_is_refused_where_nobody_else_shows_it() -> None:
    """Its profile is one number for what others show and what they do not; its box has another name than HEVC's."""
    for profile, shown_by in ((10, 1), (10, 4), (20, 1), (9, 2)):
        file_kinds.check_shown_here(io.BytesIO(_box(b"moov", _box(b"dvvC", _record(profile, shown_by)))))
        file_kinds.check_shown_here(io.BytesIO(_broadcast(profile, shown_by)))
    for box in (b"dvvC", b"dvwC"):
        with pytest.raises(VideoError, match="Dolby Vision of profile 10"):
            file_kinds.check_shown_here(io.BytesIO(_box(b"moov", _box(box, _record(10)))))


def test_a_scrambled_broadcast_is_called_so_not_empty() -> None:
    """Its demuxer gives no packets at all; a table in between is not scrambled."""
    pictures = b"G\x01\x00\xd0" + bytes(184)
    with pytest.raises(VideoError, match="scrambled"):
        file_kinds.check_shown_here(io.BytesIO(_broadcast(8, 4) + pictures * 20))
    plain = b"G\x01\x00\x10" + bytes(184)
    file_kinds.check_shown_here(io.BytesIO(_broadcast(8, 4) + plain * 20))


@pytest.mark.parametrize("box", [b"styp", b"sidx", b"moof"])
def test_a_segment_of_a_stream_is_told_what_it_lacks(box: bytes) -> None:
    segment = _box(box, b"msdh" + bytes(4)) + _box(b"mdat", bytes(500))
    assert "put that in front" in file_kinds.refusal(io.BytesIO(segment), "Invalid data")


def test_a_films_reader_looks(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    from service.serving.video.files import open_source
    from tests.unit.serving.video.films import LIMITS, Film, write

    film = write(tmp_path / "in.mkv", Film())
    open_source(str(film), limits=LIMITS).close()
    film.write_bytes(film.read_bytes() + _matroska(5)[300:])
    with pytest.raises(VideoError, match="Dolby Vision of profile 5"):
        open_source(str(film), limits=LIMITS)


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(_mp4(8)[:3000]),
        base64.encodebytes(_matroska(8)),
        base64.urlsafe_b64encode(_broadcast(8)),
        b"data:video/mp4;base64," + base64.b64encode(_mp4(8)[:3000]),
    ],
)
def test_a_clip_in_base64_is_refused_by_what_it_is(text: bytes) -> None:
    assert file_kinds.refusal(io.BytesIO(text), "Invalid data").endswith("this is a file in base64; send its bytes")


@pytest.mark.parametrize("text", [b"hello " * 20, b"A" * 40, b"A" * 70 + b" b", b'{"clip": "' + b"A" * 70 + b'"}'])
def test_other_texts_are_not_taken_for_base64(text: bytes) -> None:
    assert "base64" not in file_kinds.refusal(io.BytesIO(text), "Invalid data")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\xff\xf1\x50\x80", "this is an AAC; it has no pictures"),
        (b"\xff\xf3\x50\xc4", "this is an MP3; it has no pictures"),
        (b"\x0b\x77\x12\x34", "this is an AC-3; it has no pictures"),
        (b"FORM\0\0\1\0AIFF", "this is an AIFF; it has no pictures"),
        (b"FORM\0\0\1\0ILBM", "are read"),
        (b".snd\0\0\0\x18", "this is an AU; it has no pictures"),
        (b"#!AMR\n", "this is an AMR; it has no pictures"),
        (b"MThd\0\0\0\6", "this is a MIDI file; it has no pictures"),
        (b"\0\0\1\x67\x64\0", "this is H.264 or HEVC without a container; give its frames times"),
        (b"\0\0\1\x40\1\x0c", "this is H.264 or HEVC without a container; give its frames times"),
        (b"\x1f\x07\0\xbf", "this is DV without a container; put its film into another"),
        (b"\0\0\2\0RED2", "this is a Redcode film (R3D); make a film of it"),
        (b"ZWS\x0d", "this is a Flash film (SWF); make a film of it"),
        (b"rtsp://camera/1", "this is an address, and none is fetched"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a pointer of Git LFS"),
        (b"\xfd7zXZ\0", "this is compressed by xz"),
    ],
)
def test_what_is_no_clip_is_called_what_it_is(start: bytes, words: str) -> None:
    """They were "no video that can be read" and a word of the decoder; the Redcode film was an ICO."""
    assert words in file_kinds.refusal(io.BytesIO(start + bytes(100) * (not start.startswith(b"rtsp"))), "Invalid")
