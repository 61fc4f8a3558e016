"""Names what a file is that no reader takes, by its first bytes, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from service.imaging import other_kinds
from service.serving.video.clip import VideoError

_READ = "MP4, Matroska, WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF, IVF and y4m are read"
_NONE = "no video that can be read"
_ENCODE = "make a film of it first: ffmpeg -i in -pix_fmt yuv420p out.mp4"
_WRAP = "give its frames times in a container: ffmpeg -framerate 25 -i in -c copy out.mkv"
_WHOLE = "send it whole"
_ONLY_SOUND = "it has no pictures, only sound"
_MOVE = "put its film into another container: ffmpeg -i in -c copy out.mkv"

#: Bytes of the beginning that are looked at.
_START = 4096
#: First bytes, what begins so, and what to do.
_KINDS = (
    (b"GIF8", "a GIF", _ENCODE),
    (b"\x89PNG", "a PNG, animated or not", _ENCODE),
    (b"\xff\xd8", "a JPEG", _ENCODE),
    (b"\x00\x00\x00\x01", "H.264 or HEVC without a container", _WRAP),
    (b"\x12\x00\x0a", "AV1 without a container", _WRAP),
    (b"\x00\x00\x01\xb3", "MPEG video without a container", _WRAP),
    (b"\x00\x00\x01\xb0", "MPEG-4 video without a container", _WRAP),
    (b"\x06\x0e\x2b\x34", "an MXF file", _MOVE),
    (b"nut/multimedia", "a NUT file", _MOVE),
    (b".RMF", "a RealMedia file", _ENCODE),
    (b"ID3", "an MP3", _ONLY_SOUND),
    (b"\xff\xfb", "an MP3", _ONLY_SOUND),
    (b"\xff\xf2", "an MP3", _ONLY_SOUND),
    (b"\xff\xf3", "an MP3", _ONLY_SOUND),
    (b"\xff\xfa", "an MP3", _ONLY_SOUND),
    (b"\xff\xf1", "an AAC", _ONLY_SOUND),
    (b"\xff\xf9", "an AAC", _ONLY_SOUND),
    (b"\x0b\x77", "an AC-3", _ONLY_SOUND),
    (b"\x7f\xfe\x80\x01", "a DTS", _ONLY_SOUND),
    (b".snd", "an AU", _ONLY_SOUND),
    (b"caff", "a CAF", _ONLY_SOUND),
    (b"riff", "a W64", _ONLY_SOUND),
    (b"#!AMR", "an AMR", _ONLY_SOUND),
    (b"MThd", "a MIDI file", "it has no pictures"),
    (b"fLaC", "a FLAC", _ONLY_SOUND),
    (b"FWS", "a Flash film (SWF)", _ENCODE),
    (b"CWS", "a Flash film (SWF)", _ENCODE),
    (b"ZWS", "a Flash film (SWF)", _ENCODE),
    (b"\x1f\x07\x00", "DV without a container", _MOVE),
    (b"#EXTM3U", "a playlist, which names other files", "send the film itself"),
)
#: The same, where more than first bytes tell.
_PATTERNS = (
    # Behind a start code of three bytes a delimiter, parameters or information (ISO/IEC 14496-10 and 23008-2, 7.3.1).
    (
        re.compile(rb"\x00\x00\x01(?:[\x06\x09\x27\x67]|[\x40\x42\x46]\x01)"),
        "H.264 or HEVC without a container",
        _WRAP,
    ),
    (re.compile(rb"FORM.{4}AIF[CF]", re.DOTALL), "an AIFF", _ONLY_SOUND),
    (re.compile(rb".{4}RED[12]", re.DOTALL), "a Redcode film (R3D)", _ENCODE),
)
#: A file as text, in one line or in lines as mail has them, perhaps as a data URL (RFC 4648, 4 and 5; RFC 2397).
_BASE64 = re.compile(rb"\s*(?:data:[^,]{0,100};base64,)?[A-Za-z0-9+/_-]{60}[A-Za-z0-9+/_=\r\n-]*")
#: The first box of a segment, of which DASH and HLS give films (ISO/IEC 14496-12, 8.16).
_SEGMENT_BOXES = (b"styp", b"sidx", b"moof", b"emsg", b"prft")
#: What begins so and has this after four bytes of its length.
_RIFF_KINDS = {b"WEBP": ("a WebP", _ENCODE), b"WAVE": ("a WAV", _ONLY_SOUND)}
#: Where a container describes Dolby Vision: its record's name, a version, its profile, and who else shows it.
_DOLBY = re.compile(rb"dv[cvw]C.{0,8}?\x01\x00(...)", re.DOTALL)
#: The same in a broadcast's table of its programme.
_DOLBY_DESCRIPTOR = re.compile(rb"\xb0[\x05\x07]\x01\x00(...)", re.DOTALL)
#: Profiles whose pictures no other decoder shows right, as their colours are coded as IPT: the latter may be.
_DOLBY_IPT, _DOLBY_MAYBE_IPT = 5, (10, 20)
#: How a transport stream's packets lie: where the first begins, and how far apart they are.
_LAYOUTS = ((0, 188), (4, 192))
#: What the fourth byte of a packet's header is at least where what it holds is scrambled.
_SCRAMBLED = 0x80
#: Bytes of a transport stream that are looked at: its tables come several times a second.
_MAX_TABLES = 2**20
#: Bytes of an index that are looked at.
_MAX_INDEX = 4 * 2**20
#: Boxes of a file that are looked at in search of its index.
_MAX_BOXES = 1000


def still_picture(file: Path | BinaryIO) -> str | None:
    """Return why a file is refused that holds a still picture in the boxes of a film; None for any other.

    FFmpeg shows it, or the first of the tiles that phones store it in, as a film of one frame.
    """
    if isinstance(file, Path):
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return still_picture(stream)
    if not file.seekable():
        return None
    file.seek(0)
    kind, _ = other_kinds.name(file.read(_START))
    is_still = kind in ("HEIC", "AVIF") and not _has_index(file)
    file.seek(0)
    return f"{_NONE}: this is {kind}, a still picture; {_READ}" if is_still else None


def check_shown_here(file: Path | BinaryIO) -> None:
    """Raise VideoError for a scrambled broadcast, and for Dolby Vision whose colours FFmpeg shows no way to tell."""
    if isinstance(file, Path):
        if file.is_file():
            with file.open("rb") as stream:
                check_shown_here(stream)
        return
    if not file.seekable():
        return
    place = file.tell()
    file.seek(_index_place(file) or 0)
    data = file.read(_MAX_INDEX)
    file.seek(place)
    packets = _packets(data)
    # Tables are never scrambled; of all else hardly a packet is not.
    if 2 * sum(packet[3] >= _SCRAMBLED for packet in packets) > len(packets):
        raise VideoError("the broadcast is scrambled, and no key is known here; record it from where it is not")
    records = _dolby_records(data, packets)
    for record in records:
        profile, shown_by = record[0] >> 1, record[2] >> 4
        if profile == _DOLBY_IPT or (profile in _DOLBY_MAYBE_IPT and not shown_by):
            raise VideoError(
                f"the film is Dolby Vision of profile {profile}, whose colours are not read; export it as HDR10 or SDR"
            )


def _packets(data: bytes) -> list[bytes]:
    """Return the packets of a transport stream's beginning; none where it is another file (ISO/IEC 13818-1, 2.4.3)."""
    for start, step in _LAYOUTS:
        if all(data[start + k * step : start + k * step + 1] == b"G" for k in range(3)):
            places = range(start, min(len(data), _MAX_TABLES) - 187, step)
            return [data[place : place + 188] for place in places]
    return []


def container_name(file: Path | BinaryIO) -> str | None:
    """Return FFmpeg's name of the container where it must be told, as of transport streams; None of all others.

    Those of few packets it takes for program streams, and finds nothing in them, or for bare video without times.
    """
    if isinstance(file, Path):
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return container_name(stream)
    if not file.seekable():
        return None
    place = file.tell()
    file.seek(0)
    start = file.read(_START)
    file.seek(place)
    whole = range(0, len(start) - 187, 188)
    is_transport_stream = len(whole) >= 3 and all(start[packet] == ord("G") for packet in whole)
    return "mpegts" if is_transport_stream else None


def _dolby_records(data: bytes, packets: list[bytes]) -> list[bytes]:
    """Return what follows the version in each record of Dolby Vision: profile in 7 bits, 9 others, who shows it in 4.

    It stands in a box, or in a transport stream in a packet with the table of a programme (13818-1, 2.4.4.9).
    """
    if packets:
        tables = [packet for packet in packets if packet[1] & 0x40 and packet[4:6] == b"\x00\x02"]
        return [record for table in tables for record in _DOLBY_DESCRIPTOR.findall(table)]
    match = _DOLBY.search(data)
    return [] if match is None else [match[1]]


def refusal(file: Path | BinaryIO, why: str) -> str:
    """Say why a file that cannot be opened is no clip. `why` is the decoder's word, for a kind that is not known."""
    if isinstance(file, Path):
        if not file.is_file():  # what has been read of a pipe is gone
            return f"{_NONE}: {why}"
        with file.open("rb") as stream:
            return f"{_NONE}: {_told(stream, why)}"
    return f"{_NONE}: {_told(file, why) if file.seekable() else why}"


def _told(file: BinaryIO, why: str) -> str:
    file.seek(0)
    start = file.read(_START)
    matches = [(kind, remedy) for magic, kind, remedy in _KINDS if start.startswith(magic)]
    if start.startswith(b"RIFF") and start[8:12] in _RIFF_KINDS:
        matches.append(_RIFF_KINDS[start[8:12]])
    matches += [(kind, remedy) for pattern, kind, remedy in _PATTERNS if pattern.match(start)]
    if matches:
        return f"this is {matches[0][0]}; {matches[0][1]}"
    if _BASE64.fullmatch(start):
        return "this is a file in base64; send its bytes"
    if start[4:8] in _SEGMENT_BOXES:
        return (
            "this is a segment of a stream, without the beginning that tells what it is; "
            "put that in front: cat init.mp4 segment.m4s"
        )
    kind, _ = other_kinds.name(start)
    if "video" in kind and start[4:8] == b"ftyp" and not _has_index(file):
        return (
            f"this {kind.partition(' ')[0]} file has no index, as its recording or its sending was not ended; {_WHOLE}"
        )
    if kind != other_kinds.UNKNOWN and "video" not in kind:
        return f"this is {kind}; {_READ}"
    return f"{_READ} ({why})"


def _has_index(file: BinaryIO) -> bool:
    """Tell whether a file of boxes has an index."""
    return _index_place(file) is not None


def _index_place(file: BinaryIO) -> int | None:
    """Return where in a file of boxes the one called moov begins (ISO/IEC 14496-12); None: there is none."""
    at, length = 0, file.seek(0, 2)
    for _ in range(_MAX_BOXES):
        if at >= length:
            return None
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if head[4:8] == b"moov":
            return at
        if len(head) < 8 or size < 8:  # the last box may say 0: up to the end
            return None
        at += size
    return at
