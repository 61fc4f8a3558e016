#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): behind a cut of an MP4's edit list frames come too late, or before those in front of them.
#
# An MP4 of 4 s at 10 frames a second gets an edit list of two or three parts, as editors and phones write when something
# in the middle is cut out. Without B-frames and with two in a row, with a key frame every 0.5, 1 or 4 s, the times of what
# is decoded are read. Right is a frame every 0.1 s, the first one at 0.
#
# Output seen (CPython 3.11.7), K the key frames' distance in frames, B the B-frames:
#     PyAV 18.1.0
#     B 0 K 40 two parts  : 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
#     B 0 K 40 three parts: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
#     B 0 K  5 two parts  : 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
#     B 0 K  5 three parts: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
#     B 2 K 40 two parts  : 0 1 2 3 4 5 6 7 8 9 11 12 13 14 15 16 17 18 19 20
#     B 2 K 40 three parts: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
#     B 2 K 10 two parts  : 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
#     B 2 K 10 three parts: 0 1 2 3 4 4 5 6 7 8 8 9 10 11 12
#     B 2 K  5 two parts  : 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
#     B 2 K  5 three parts: 0 1 2 3 4 3 4 5 6 7 8 9 10 11 12
#
# Why it surprises: the pictures are the right ones in the right order, and with one part, or without B-frames, so are
# the times. What is behind a cut is late by the frames that B-frames delay the decoder, or begins before the part in
# front of it has ended, so that two pictures have one time; which of them follows from where the key frames lie, which no
# user sees. A muxer that wants rising times then refuses the film, or squeezes frames between others.
# Not found upstream; mifi/lossless-cut issue 3057 describes such files, and players that show them right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import io
import struct
import sys

import av
import numpy as np

RATE, COUNT = 10, 40
#: Parts of the film, seconds: where each begins and how long it is.
EDITS = {"two parts": [(0, 1), (2, 1)], "three parts": [(0.3, 0.5), (1.5, 0.5), (3, 0.5)]}


def film(b_frames, key_distance):
    file = io.BytesIO()
    options = {"bf": str(b_frames), "g": str(key_distance), "x264-params": "b-adapt=0:scenecut=0:b-pyramid=none"}
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 6, np.uint8), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def edited(data, parts):
    """Put an edit list of these parts in place of the one that is there (ISO/IEC 14496-12, 8.6.6)."""

    def number(at):
        return int.from_bytes(data[at : at + 4], "big")

    moov = data.rindex(b"moov") - 4
    trak, tkhd, mdhd, edts = (data.index(name, moov) - 4 for name in (b"trak", b"tkhd", b"mdhd", b"edts"))
    movie_unit, unit = number(moov + 28), number(mdhd + 20)
    first = number(edts + 28)  # where the muxer says that the first picture's time is
    rows = [(round(length * movie_unit), round(begin * unit) + first, 1 << 16) for begin, length in parts]
    table = b"".join(struct.pack(">IiI", *row) for row in rows)
    box = struct.pack(">I4sI4sII", 24 + len(table), b"edts", 16 + len(table), b"elst", 0, len(parts)) + table
    end = edts + number(edts)
    whole = bytearray(data[:edts] + box + data[end:])
    for at in (moov, trak):
        struct.pack_into(">I", whole, at, number(at) + len(box) - (end - edts))
    return io.BytesIO(bytes(whole))


def times(file):
    """Return times in tenths of a second, having checked that the right pictures come."""
    with av.open(file) as source:
        frames = [(frame.time * RATE, frame.to_ndarray(format="gray").mean() / 6) for frame in source.decode(video=0)]
    return [round(time) for time, _ in frames], [round(level) for _, level in frames]


print("PyAV", av.__version__)
wrong = {}
for b_frames, key_distance in ((0, 40), (0, 5), (2, 40), (2, 10), (2, 5)):
    for name, parts in EDITS.items():
        shown, levels = times(edited(film(b_frames, key_distance), parts))
        right = [round((begin + k / RATE) * RATE) for begin, length in parts for k in range(round(length * RATE))]
        assert levels == right, levels
        wrong[b_frames, key_distance, name] = shown != list(range(len(right)))
        print(f"B {b_frames} K {key_distance:2} {name:11}: {' '.join(map(str, shown))}")
expected = {(2, 40, "two parts"), (2, 10, "three parts"), (2, 5, "three parts")}
if {case for case, is_wrong in wrong.items() if is_wrong} != expected:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
