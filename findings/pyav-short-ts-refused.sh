#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): of MPEG transport streams of a few frames some cannot be opened, "End of file".
#
# Small grey films of one to eight frames are written as transport streams by three codecs, and opened again: as they are,
# and with the container named (format="mpegts"). Printed is how many frames were read, beside the number of packets of
# 188 bytes that the file has.
#
# Output seen (CPython 3.11.7, x86-64; ffprobe 5.1.9 refuses the same files):
#     PyAV 18.1.0
#     frames (packets of the file) -> read; * opened as mpegvideo
#     libx264     1 (8) -> 1          2 (9) -> EOFError   3 (10) -> EOFError  4 (13) -> 4         5 (14) -> 5         8 (19) -> 8
#     mpeg4       1 (4) -> 1          2 (5) -> EOFError   3 (6) -> EOFError   4 (9) -> EOFError   5 (10) -> EOFError  8 (15) -> 8
#     mpeg2video  1 (4) -> 1*         2 (5) -> EOFError   3 (6) -> EOFError   4 (9) -> EOFError   5 (10) -> EOFError  8 (15) -> 8
#     files not read whole when the container is named: 0
#
# Why it surprises: the files are whole, the same program wrote them, both shorter and longer ones open, and the name
# video.ts does not help. The container is guessed from the bytes, and in few packets a program stream ("mpeg", score 25)
# is found more likely than a transport stream (score 2), though each packet begins with its mark; one file is even read as
# bare video, without its times. Segments of a frame or two are what low-latency streams and streams of thumbnails are cut
# into. The way around is to name the container where it is known.
# MediaArea/MediaInfoLib issue 452 is about another reader's limit of this kind; about FFmpeg's none was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0
cat >"$work/find.py" <<'PY'
import io
import sys

import av


def film(codec, count):
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([40 + 13 * number]) * plane.buffer_size)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def opened(film_bytes, container=None):
    try:
        with av.open(io.BytesIO(film_bytes), format=container) as source:
            count = len(list(source.decode(video=0)))
            return f"{count}*" if source.format.name == "mpegvideo" else str(count)
    except av.error.EOFError:
        return "EOFError"


av.logging.set_level(None)
print("PyAV", av.__version__)
print("frames (packets of the file) -> read; * opened as mpegvideo")
COUNTS = [1, 2, 3, 4, 5, 8]
guessed, not_whole = {}, 0
for codec in "libx264", "mpeg4", "mpeg2video":
    cells = []
    for count in COUNTS:
        film_bytes = film(codec, count)
        guessed[codec, count] = opened(film_bytes)
        not_whole += opened(film_bytes, "mpegts") != str(count)
        cells.append(f"{count} ({len(film_bytes) // 188}) -> {guessed[codec, count]}")
    print(f"{codec:11} " + "".join(f"{cell:20}" for cell in cells).rstrip())
print("files not read whole when the container is named:", not_whole)
if (
    not_whole
    or any(guessed[codec, count] != "EOFError" for codec, count in guessed if count in (2, 3))
    or any(guessed[codec, 8] != "8" for codec, _ in guessed)
    or any(guessed[codec, 1][0] != "1" for codec, _ in guessed)
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
