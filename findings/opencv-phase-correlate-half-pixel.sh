#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): of some odd sizes a picture is half a pixel away from itself.
#
# cv2.phaseCorrelate is asked how far a picture has moved from itself, and how far from the same one rolled by three
# pixels to the right and two down, which is exact for a Fourier transform of that size.
#
# Output seen (CPython 3.11.7, x86-64):
#     OpenCV 5.0.0
#        64x48    itself 0.000 0.000, rolled 3.000 2.000
#       720x405   itself 0.000 0.500, rolled 3.000 2.500
#       375x375   itself 0.500 0.500, rolled 3.500 2.500
#        75x48    itself 0.500 0.000, rolled 3.500 2.000
#      1125x1125  itself 0.500 0.500, rolled 3.500 2.500
#       101x75    itself 0.000 0.500
#        77x77    itself 0.000 0.000
#
# Why it surprises: the function gives fractions of a pixel, the response is 1, and nothing says that the answer has
# a constant error. Each side counts for itself. It is so where a side is odd and of factors 3 and 5 only (75, 225, 375,
# 405, 1125 ...): others are padded to a size that the transform likes, which mostly is an even one, and are right. So the
# picture of 720x405 (16:9) seems to sink by half a pixel each frame, the one of 720x404 does not. The middle is taken as half
# the size, where with an odd size it is half a pixel less.
# Known upstream in part: opencv/opencv issue 9144 was about larger errors of odd sizes, and is closed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import cv2
import numpy as np

ROLLED = [(64, 48), (720, 405), (375, 375), (75, 48), (1125, 1125)]
PADDED = [(101, 75), (77, 77)]


def picture(width, height):
    return cv2.GaussianBlur(np.random.default_rng(0).random((height, width)), (0, 0), 1.5)


def shift(first, second):
    (right, down), _ = cv2.phaseCorrelate(first, second)
    return round(right, 3) + 0.0, round(down, 3) + 0.0


def error(side):
    padded = cv2.getOptimalDFTSize(side)
    return 0.5 if padded % 2 else 0.0


print("OpenCV", cv2.__version__)
has_changed = False
for width, height in ROLLED + PADDED:
    still = picture(width, height)
    errors = error(width), error(height)
    itself = shift(still, still)
    line = f"{width:5}x{height:<5} itself {itself[0]:.3f} {itself[1]:.3f}"
    has_changed = has_changed or itself != errors
    if (width, height) in ROLLED:
        moved = shift(still, np.roll(still, (2, 3), (0, 1)))
        line += f", rolled {moved[0]:.3f} {moved[1]:.3f}"
        has_changed = has_changed or moved != (3 + errors[0], 2 + errors[1])
    print(line)
if has_changed:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
