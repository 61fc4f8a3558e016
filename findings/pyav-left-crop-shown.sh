#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): the left side that a film says is to be cut off is shown, and frames are wider than the film.
#
# A ramp of grey, 128 columns wide, is written as H.264 whose header says how many columns or rows are to be cut off at
# which side (x264's crop-rect). It is read back as it is, and with the decoder's flag `unaligned`. The ramp's first
# column is 50 and each one is brighter by 1, so that the first and last pixel say which columns are shown.
#
# Output seen (CPython 3.11.7, x86-64):
#     PyAV 18.1.0
#     8 to cut on the right  film 120x96, frame 120x96, columns 0 to 119
#     8 to cut on the left   film 120x96, frame 128x96, columns 0 to 127
#     16 to cut on the left  film 112x96, frame 128x96, columns 0 to 127
#     40 to cut on the left  film  88x96, frame 128x96, columns 0 to 127
#     8 to cut at the top    film 128x88, frame 128x88, columns 0 to 127
#     with `unaligned`:
#     8 to cut on the left   film 120x96, frame 120x96, columns 8 to 127
#     16 to cut on the left  film 112x96, frame 112x96, columns 16 to 127
#     40 to cut on the left  film  88x96, frame  88x96, columns 40 to 127
#
# Why it surprises: the other three sides are cut, the codec context tells the right size before and after, and each
# frame has another. What was hidden on purpose (noise at the edge of a tape, black bars) is shown, and a program that
# has made room for frames of the film's size is not told. FFmpeg cuts the left side only by whole words of the
# processor's vectors, so that rows begin at aligned addresses, and drops the rest; how many columns that are depends on
# how FFmpeg was built. Setting `context.flags |= Flags.unaligned` before decoding is the way around, a flag that is
# described as one about memory.
# Not found upstream in a search of issues.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import io
import sys

import av
import numpy as np
from av.codec.context import Flags

RAMP = np.tile(np.arange(50, 178, dtype=np.uint8), (96, 1))
#: Columns or rows to cut: left, top, right, bottom.
CROPS = {
    "8 to cut on the right": (0, 0, 8, 0),
    "8 to cut on the left": (8, 0, 0, 0),
    "16 to cut on the left": (16, 0, 0, 0),
    "40 to cut on the left": (40, 0, 0, 0),
    "8 to cut at the top": (0, 8, 0, 0),
}


def film(crop):
    file = io.BytesIO()
    options = {"crf": "1", "x264-params": "crop-rect=" + ",".join(map(str, crop))}
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *RAMP.shape, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.stack([RAMP] * 3, axis=2), format="rgb24")
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def shown(name, flags=0):
    with av.open(film(CROPS[name])) as source:
        context = source.streams.video[0].codec_context
        context.flags |= flags
        frame = next(source.decode(video=0))
        row = frame.to_ndarray(format="gray")[frame.height // 2]
        sizes = (context.width, context.height), (frame.width, frame.height)
    columns = int(row[0]) - 50, int(row[-1]) - 50
    words = [f"{width:3}x{height}" for width, height in sizes]
    print(f"{name:22} film {words[0]}, frame {words[1]}, columns {columns[0]} to {columns[1]}")
    return sizes[0] == sizes[1]


print("PyAV", av.__version__)
plain = [shown(name) for name in CROPS]
print("with `unaligned`:")
mended = [shown(name, Flags.unaligned) for name in CROPS if "left" in name]
if plain != [True, False, False, False, True] or not all(mended):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
