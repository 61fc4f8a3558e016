#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): one small picture changes the settings of a DIS optical flow for good.
#
# A DIS object of each preset finds the flow between two pictures of 640x360, once new, and once after a pair of 96x64
# or 80x60. Printed are the finest scale that it says it has, how far the flow is from the true one in pixels (the second
# picture is the first, rolled by 3 and 2), how much it differs from that of the new object, and the processor time as a
# multiple of the new one's.
#
# Output seen (CPython 3.11.7, x86-64; the times vary):
#     OpenCV 5.0.0
#     preset     first      finest scale  mean error  differs by  time
#     ULTRAFAST  nothing               2       0.038        0.00   1.0
#     ULTRAFAST  96x64                 2       0.038        0.00   1.1
#     ULTRAFAST  80x60                 0       0.000        1.60  10.2
#     FAST       nothing               2       0.039        0.00   1.0
#     FAST       96x64                 2       0.039        0.00   1.0
#     FAST       80x60                 0       0.000        1.49  17.6
#     MEDIUM     nothing               1       0.009        0.00   1.0
#     MEDIUM     96x64                 1       0.009        0.00   1.0
#     MEDIUM     80x60                 1       0.009        0.00   1.0
#     FAST, finest scale set to 2, after 80x60: 0
#
# Why it surprises: the answer for two pictures depends on what the object was asked before, and the object's own getter
# says so: a value that the caller set is another one after a calculation. A picture with too few scales for the preset
# gets finer ones, which is right, but they are written over the setting. From then on every larger picture is worked out
# at full size, ten to twenty times slower; a program that keeps one object for thumbnails and films, because making one
# costs memory, is slow from its first thumbnail on, and its results cannot be had again in another order. A new object
# for each size, or setFinestScale before each call, is the way around.
# The finer scales came after opencv/opencv issue 14554 (small pictures); about their staying nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys
import time

import cv2
import numpy as np

cv2.setNumThreads(1)
random = np.random.default_rng(0)


def pair(width, height):
    noise = cv2.GaussianBlur(random.integers(0, 256, (height, width)).astype(np.float32), (0, 0), 3)
    picture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return picture, np.roll(picture, (2, 3), (0, 1))


def timed(search, pictures):
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        flow = search.calc(*pictures, None)
        seconds.append(time.process_time() - begin)
    return flow, min(seconds)


film, sizes = pair(640, 360), {"96x64": pair(96, 64), "80x60": pair(80, 60)}
presets = {
    "ULTRAFAST": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "FAST": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "MEDIUM": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
print("OpenCV", cv2.__version__)
print("preset     first      finest scale  mean error  differs by  time")
seen = {}
for name, preset in presets.items():
    fresh, usual = timed(cv2.DISOpticalFlow_create(preset), film)
    for first in ("nothing", *sizes):
        search = cv2.DISOpticalFlow_create(preset)
        if first in sizes:
            search.calc(*sizes[first], None)
        scale = search.getFinestScale()
        flow, seconds = timed(search, film)
        error = np.abs(flow[20:-20, 20:-20] - (3, 2)).mean()
        differs = float(np.abs(flow - fresh).max())
        seen[name, first] = (scale, differs, seconds / usual)
        print(f"{name:10} {first:7} {scale:15} {error:11.3f} {differs:11.2f} {seconds / usual:5.1f}")
search = cv2.DISOpticalFlow_create(presets["FAST"])
search.setFinestScale(2)
search.calc(*sizes["80x60"], None)
print("FAST, finest scale set to 2, after 80x60:", search.getFinestScale())

changed = {case for case, (_, differs, _) in seen.items() if differs > 0.1}
scales = [seen["FAST", first][0] for first in ("nothing", "96x64", "80x60")]
expected = {("ULTRAFAST", "80x60"), ("FAST", "80x60")}
if changed != expected or scales != [2, 2, 0] or search.getFinestScale() != 0 or seen["FAST", "80x60"][2] < 3:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
