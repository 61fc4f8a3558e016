#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): converted to I420, a red line is as red as two, or grey, by where it lies.
#
# Black pictures of 64x64 with red in some rows and columns of each 2x2 are converted by cv2.cvtColor to I420, whose chroma
# has half the width and height, and to YUY2, whose chroma has half the width; and to yuv420p by PyAV 18.1.0 (FFmpeg 8). Printed
# is how much Cr is above 128 on the mean, which is 112 for a picture that is all red, beside the share of red pixels. Then
# noise is converted, and of each pixel of a 2x2 it is looked which share of the chroma samples it would give alone.
#
# Output seen (CPython 3.11.7, x86-64):
#     OpenCV 5.0.0, PyAV 18.1.0
#     red               share   I420   YUY2   PyAV
#     everywhere         1.00    112    112    111
#     even columns       0.50    112     56     55
#     odd columns        0.50      0     56     55
#     even rows          0.50    112     56     55
#     odd rows           0.50      0     56     55
#     upper left         0.25    112     28     27
#     lower right        0.25      0     28     27
#     chroma of noise that is one pixel's: upper left 1.00, others at most 0.01
#
# Why it surprises: chroma of a quarter of the size is an average to everyone who has read how 4:2:0 works, and so it is in
# OpenCV's own YUY2. Here it is the upper left pixel's, and the other three are not looked at. Thin red writing is grey in one
# place and twice as red in another, edges of colours lie up to a pixel off, and in a pan they flicker from frame to
# frame; a one-pixel line of an annotation vanishes in every second column. Frames are handed to encoders, to cameras'
# pipes and to y4m files by this conversion, and flat test pictures pass. Resizing the chroma of COLOR_BGR2YUV, or the scaler of
# FFmpeg, averages.
# Known upstream: opencv/opencv pull request 1523 of 2013 wanted an average, and was closed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import av
import cv2
import numpy as np

SIZE = 64
PLACES = {
    "everywhere": ([0, 1], [0, 1]),
    "even columns": ([0, 1], [0]),
    "odd columns": ([0, 1], [1]),
    "even rows": ([0], [0, 1]),
    "odd rows": ([1], [0, 1]),
    "upper left": ([0], [0]),
    "lower right": ([1], [1]),
}


def chroma_of_i420(picture):
    """Cb and Cr, 2x32x32, of a picture whose blue comes first."""
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)[SIZE:].reshape(2, SIZE // 2, SIZE // 2)


def red_of_yuy2(picture):
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_YUY2)[:, 1::2, 1]


def red_of_pyav(picture):
    plane = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="yuv420p").planes[2]
    # Without the margin, where the filter has no neighbours.
    return np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[4:28, 4:28]


print(f"OpenCV {cv2.__version__}, PyAV {av.__version__}")
print("red               share   I420   YUY2   PyAV")
reds = {}
for name, (rows, columns) in PLACES.items():
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    for row in rows:
        for column in columns:
            picture[row::2, column::2, 2] = 255
    samples = chroma_of_i420(picture)[1], red_of_yuy2(picture), red_of_pyav(picture)
    reds[name] = [round(sample.mean() - 128) for sample in samples]
    print(f"{name:17} {len(rows) * len(columns) / 4:5.2f}", *(f"{red:6}" for red in reds[name]))

noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
shares = {}
for row in 0, 1:
    for column in 0, 1:
        alone = np.repeat(np.repeat(noise[row::2, column::2], 2, axis=0), 2, axis=1)
        shares[row, column] = float((chroma_of_i420(alone) == chroma_of_i420(noise)).mean())
others = max(share for place, share in shares.items() if place != (0, 0))
print(f"chroma of noise that is one pixel's: upper left {shares[0, 0]:.2f}, others at most {others:.2f}")
first, averaged = [reds[name][0] for name in PLACES], [reds[name][1] for name in PLACES]
if not (
    first == [112, 112, 0, 112, 0, 112, 0]
    and averaged == [112, 56, 56, 56, 56, 28, 28]
    and all(abs(red - full) <= 3 for (_, full, red) in reds.values())
    and shares[0, 0] == 1
    and others < 0.05
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
