#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): grey frames that H.264 stores without loss come back with another contrast.
#
# Frames of seven grey values are written as pixel format `gray` and read back as `gray`: by FFV1, and by libx264 at QP 0,
# which loses nothing either. Then the same by libx264 as `yuv420p`, and as `gray` with the colour range set by hand.
#
# Output seen (CPython 3.11.7):
#     PyAV 18.1.0
#     written              0  16  64 128 200 235 255
#     ffv1 gray            0  16  64 128 200 235 255
#     libx264 gray         0   0  56 130 214 255 255
#     libx264 yuv420p      0  16  64 128 200 235 255
#     libx264 gray, full   0  16  64 128 200 235 255
#
# Why it surprises: nothing is lossy, nothing is converted by the program, and colour frames written in the same way come
# back as they were. The scaler makes `gray` of the full range (0 to 255), the frame and the encoder leave the range
# unspecified, and the decoder, which gives the film as `yuv420p`, takes that for 16 to 235 and stretches it: all that is
# darker than 16 or brighter than 235 is gone. The command line program sets the range between its filters and the encoder;
# a program that uses the library has to say `stream.codec_context.color_range = 2` (full) before the first frame.
# Known upstream in part: JuliaIO/VideoIO.jl met it through the same library (pull request 174); no report about PyAV was
# found.
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

VALUES = [0, 16, 64, 128, 200, 235, 255]
WIDE = 16
PICTURE = np.tile(np.array(VALUES, np.uint8).repeat(WIDE), (48, 1))
FULL = 2


def read_back(container, codec, pixels, color_range=None):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options={"qp": "0"} if codec == "libx264" else {})
        stream.height, stream.width = PICTURE.shape
        stream.pix_fmt = pixels
        if color_range is not None:
            stream.codec_context.color_range = color_range
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(PICTURE, format="gray")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        frame = next(source.decode(video=0))
        return frame.to_ndarray(format="gray")[24, WIDE // 2 :: WIDE].tolist()


def show(name, values):
    print(f"{name:19}", *(f"{value:3}" for value in values))
    return values


av.logging.set_level(av.logging.ERROR)
print("PyAV", av.__version__)
show("written", VALUES)
lossless = show("ffv1 gray", read_back("matroska", "ffv1", "gray"))
grey = show("libx264 gray", read_back("mp4", "libx264", "gray"))
colour = show("libx264 yuv420p", read_back("mp4", "libx264", "yuv420p"))
full = show("libx264 gray, full", read_back("mp4", "libx264", "gray", FULL))
if not lossless == colour == full == VALUES or grey[1] != 0 or grey[5] != 255 or grey[3] == 128:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
