"""Names what a file is that no reader takes, by its first bytes, and what to do with it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_READ = "MP4, Matroska, WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF, IVF and y4m are read"
_ENCODE = "make a film of it first: ffmpeg -i in -pix_fmt yuv420p out.mp4"
_WRAP = "give its frames times in a container: ffmpeg -framerate 25 -i in -c copy out.mkv"
_MOVE = "put its film into another container: ffmpeg -i in -c copy out.mkv"

#: First bytes, what begins so, and what to do.
_KINDS = (
    (b"GIF8", "a GIF", _ENCODE),
    (b"\x89PNG", "a PNG, animated or not", _ENCODE),
    (b"RIFF", "a WebP", _ENCODE),
    (b"\xff\xd8", "a JPEG", _ENCODE),
    (b"\x00\x00\x00\x01", "H.264 or HEVC without a container", _WRAP),
    (b"\x12\x00\x0a", "AV1 without a container", _WRAP),
    (b"\x00\x00\x01\xb3", "MPEG video without a container", _WRAP),
    (b"\x00\x00\x01\xb0", "MPEG-4 video without a container", _WRAP),
    (b"\x06\x0e\x2b\x34", "an MXF file", _MOVE),
    (b"nut/multimedia", "a NUT file", _MOVE),
    (b".RMF", "a RealMedia file", _ENCODE),
    (b"#EXTM3U", "a playlist, which names other files", "send the film itself"),
)


def refusal(file: Path | BinaryIO, why: str) -> str:
    """Say why a file that cannot be opened is no clip. `why` is the decoder's word, for a kind that is not known."""
    if isinstance(file, Path):
        if not file.is_file():  # what has been read of a pipe is gone
            return f"no video that can be read: {why}"
        with file.open("rb") as opened:
            start = opened.read(16)
    elif file.seekable():
        file.seek(0)
        start = file.read(16)
    else:
        return f"no video that can be read: {why}"
    for magic, kind, remedy in _KINDS:
        if start.startswith(magic):
            return f"no video that can be read: this is {kind}; {remedy}"
    return f"no video that can be read: {_READ} ({why})"
