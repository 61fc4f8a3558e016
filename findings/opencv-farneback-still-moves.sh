#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): by Farneback's optical flow a still picture moves at its edges.
#
# The flow from a picture (softened noise, 192x128) to itself is asked for, with windows of 5, 15 and 25 pixels, averaged
# evenly and by a Gaussian, on one level and on three. Printed is the longest motion in pixels, of all and of what lies more
# than 30 pixels from the edge. Then which edges move after one round and after three, the motion of a picture to which 30
# pixels of its edge were added and taken off again, and that of DIS, the other dense flow of the module.
#
# Output seen (CPython 3.11.7, x86-64):
#     OpenCV 5.0.0
#     longest motion, of all / inside
#     window     evenly, 1 level         evenly, 3       Gaussian, 1       Gaussian, 3
#     5              1.68 / 0.00       1.69 / 0.00      15.28 / 0.00      32.33 / 0.00
#     15             0.06 / 0.00       0.12 / 0.00       0.32 / 0.00       0.35 / 0.00
#     25             0.03 / 0.00       0.03 / 0.00       0.10 / 0.00       0.11 / 0.00
#     window 15, evenly, 1 level: the longest motion in the first and last column and row
#     after 1 round  left 0.00 right 0.04 top 0.00 bottom 0.05
#     after 3 rounds left 0.06 right 0.06 top 0.03 bottom 0.04
#     with 30 pixels more on each side, 3 rounds: 0.00; by DIS: 0.00
#
# Why it surprises: a picture has not moved from itself, and every other pair of values that the method compares is the
# same. In the middle the motion is indeed none, at the edges it is a tenth of a pixel by the tutorial's numbers, and with a
# small Gaussian window a sixth of the picture's width. It begins at the right and the bottom, although nothing tells the
# sides apart: the last column and row of the second picture are counted as outside, for want of a neighbour to
# interpolate with, and the averaging carries that inwards and, by the next rounds, to the other sides. Where still cameras
# are watched, or a picture is warped by the flow, the frame trembles. Adding a replicated border that is taken off from
# the flow again is the way around.
# Not found upstream in a search of its issues.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import cv2
import numpy as np

BAND, WINDOWS = 30, [5, 15, 25]
WAYS = {
    "evenly, 1 level": (1, 0),
    "evenly, 3": (3, 0),
    "Gaussian, 1": (1, cv2.OPTFLOW_FARNEBACK_GAUSSIAN),
    "Gaussian, 3": (3, cv2.OPTFLOW_FARNEBACK_GAUSSIAN),
}
noise = np.random.default_rng(0).integers(0, 256, (128, 192)).astype(np.float32)
picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def farneback(image, window, levels=1, rounds=3, flags=0):
    return cv2.calcOpticalFlowFarneback(image, image, None, 0.5, levels, window, rounds, 5, 1.2, flags)


def lengths(flow):
    return np.linalg.norm(flow, axis=2)


print("OpenCV", cv2.__version__)
print(f"longest motion, of all / inside\n{'window':8}" + "".join(f"{way:>18}" for way in WAYS))
longest, inside = {}, {}
for window in WINDOWS:
    for way, (levels, flags) in WAYS.items():
        motion = lengths(farneback(picture, window, levels, flags=flags))
        longest[window, way], inside[window, way] = motion.max(), motion[BAND:-BAND, BAND:-BAND].max()
    cells = [f"{longest[window, way]:.2f} / {inside[window, way]:.2f}" for way in WAYS]
    print(f"{window:<8}" + "".join(f"{cell:>18}" for cell in cells))
print("window 15, evenly, 1 level: the longest motion in the first and last column and row")
edges = {}
for rounds in 1, 3:
    motion = lengths(farneback(picture, 15, rounds=rounds))
    columns, rows = motion.max(0), motion.max(1)
    if rounds == 1:  # the corners belong to two sides, of which one has not moved
        columns, rows = motion[BAND:-BAND].max(0), motion[:, BAND:-BAND].max(1)
    edges[rounds] = columns[0], columns[-1], rows[0], rows[-1]
    left, right, top, bottom = edges[rounds]
    print(f"after {rounds} round{'s' if rounds > 1 else ' '} left {left:.2f} right {right:.2f} ", end="")
    print(f"top {top:.2f} bottom {bottom:.2f}")
larger = cv2.copyMakeBorder(picture, 30, 30, 30, 30, cv2.BORDER_REPLICATE)
padded = lengths(farneback(larger, 15))[30:-30, 30:-30].max()
dis = lengths(cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(picture, picture, None)).max()
print(f"with 30 pixels more on each side, 3 rounds: {padded:.2f}; by DIS: {dis:.2f}")
if not (
    min(longest.values()) > 0.02
    and longest[5, "Gaussian, 3"] > 5
    and max(*inside.values(), padded, dis) < 0.001
    and max(edges[1][0], edges[1][2]) < 0.001
    and min(edges[1][1], edges[1][3]) > 0.02
    and min(edges[3]) > 0.01
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
