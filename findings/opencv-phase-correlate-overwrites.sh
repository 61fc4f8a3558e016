#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): cv2.phaseCorrelate overwrites both pictures, at some sizes only.
#
# A picture and the same one moved by two pixels are compared with a Hann window, as the documentation advises, and then
# once more. Each time it is looked whether the arrays handed in are what they were; "locked" is for arrays that numpy
# was told to keep from being written.
#
# Output seen (CPython 3.11.7, x86-64):
#     OpenCV 5.0.0
#       64x48   overwritten, locked: overwritten; moved 1.725, asked again 1.920
#      640x480  overwritten, locked: overwritten; moved 1.976, asked again 1.999
#     1280x720  overwritten, locked: overwritten; moved 1.987, asked again 2.000
#     1920x1080 overwritten, locked: overwritten; moved 1.991, asked again 2.000
#       65x48   kept, locked: kept; moved 1.647, asked again 1.647
#      854x480  kept, locked: kept; moved 1.976, asked again 1.976
#     1366x768  kept, locked: kept; moved 1.985, asked again 1.985
#
# Why it surprises: two inputs go in, numbers come out, and the inputs have been multiplied by the window: their borders
# are black. In a film each picture is used twice, as the second of one pair and the first of the next, so that the
# common loop compares a picture windowed twice with one windowed once. Whether it happens is decided by the size alone:
# where both sides are ones that the Fourier transform likes (cv2.getOptimalDFTSize), as most film sizes are, nothing
# has to be padded, and the padded copy is the caller's own array. A test with an odd size passes. Arrays that numpy says
# are read-only, such as views of a decoder's bytes, are written to all the same. Handing in copies is the way around.
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

SIZES = [(64, 48), (640, 480), (1280, 720), (1920, 1080), (65, 48), (854, 480), (1366, 768)]


def pair(width, height, kind):
    noise = np.random.default_rng(1).random((height, width + 2))
    whole = cv2.GaussianBlur(noise, (0, 0), 2).astype(kind)
    return whole[:, 2:].copy(), whole[:, :-2].copy()


def tried(width, height, kind, depth, locked):
    first, second = pair(width, height, kind)
    before = first.copy(), second.copy()
    first.flags.writeable = second.flags.writeable = not locked
    window = cv2.createHanningWindow((width, height), depth)
    moves = [cv2.phaseCorrelate(first, second, window)[0][0] for _ in range(2)]
    return np.array_equal(first, before[0]) and np.array_equal(second, before[1]), moves


print("OpenCV", cv2.__version__)
has_changed = False
for size in SIZES:
    is_kept, (move, again) = tried(*size, np.float32, cv2.CV_32F, False)
    is_locked_kept, _ = tried(*size, np.float64, cv2.CV_64F, True)
    is_liked = all(cv2.getOptimalDFTSize(side) == side for side in size)
    words = ["kept" if kept else "overwritten" for kept in (is_kept, is_locked_kept)]
    print(f"{size[0]:4}x{size[1]:<4} {words[0]}, locked: {words[1]}; moved {move:.3f}, asked again {again:.3f}")
    has_changed = has_changed or is_kept is is_liked or is_locked_kept is is_liked or (move == again) is is_liked
if has_changed:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
