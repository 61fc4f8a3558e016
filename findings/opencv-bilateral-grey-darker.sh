#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93): a small bilateral filter makes grey pictures of bytes darker.
#
# Grey noise, softened, is filtered as bytes and as floats with several diameters, and its mean is compared: as it is, of
# three channels, without Intel's routines (cv2.ipp.setUseIPP), and once, ten and twenty times in a row.
#
# Output seen (CPython 3.11.7, x86-64; the same with OPENCV_IPP set to avx2 and avx512):
#     OpenCV 5.0.0
#     mean of bytes less mean of floats
#     diameter                   3      5      7      9
#     one channel            -0.49  -0.49  -0.00  -0.00
#     three channels          0.00   0.00   0.00   0.00
#     one channel, no IPP    -0.00  -0.00  -0.00  -0.00
#     equal to the floats, diameter 5: rounded 0.51, cut off 0.99 (shares of the pixels)
#     diameter 5 in a row: 1 time -0.49, 10 times -4.93, 20 times -9.84
#
# Why it surprises: a filter that smooths keeps the mean. Here each pixel is cut off to a whole number instead of rounded,
# which takes half a level off the picture every time, but only for one channel, diameters up to 5 and pictures that are
# not tiny (from about 16 pixels a side): a colour film and a grey one, or two diameters, differ in brightness. A video
# whose brightness plane is cleaned before frames are compared drifts. The small diameter of one channel goes to IPP, the
# rest to OpenCV's own code, which rounds. Filtering floats and rounding, or switching IPP off, is the way around.
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

DIAMETERS = [3, 5, 7, 9]
noise = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.float32)
grey = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
colour = np.dstack([grey, grey[::-1], grey[:, ::-1]])


def filtered(picture, diameter):
    return cv2.bilateralFilter(picture, diameter, 30, 3)


def row(name, picture):
    floats = picture.astype(np.float32)
    shifts = [float(filtered(picture, size).mean() - filtered(floats, size).mean()) for size in DIAMETERS]
    print(f"{name:20} " + "".join(f"{shift:7.2f}" for shift in shifts))
    return shifts


print("OpenCV", cv2.__version__)
print("mean of bytes less mean of floats")
print(f"{'diameter':20} " + "".join(f"{size:7}" for size in DIAMETERS))
one, three = row("one channel", grey), row("three channels", colour)
exact, bytes_filtered = filtered(grey.astype(np.float32), 5), filtered(grey, 5)
cv2.ipp.setUseIPP(False)
without = row("one channel, no IPP", grey)
cv2.ipp.setUseIPP(True)
rounded, cut_off = (float((bytes_filtered == whole).mean()) for whole in (np.rint(exact), np.floor(exact + 1e-3)))
print(f"equal to the floats, diameter 5: rounded {rounded:.2f}, cut off {cut_off:.2f} (shares of the pixels)")
bytes_now, floats_now, drift = grey, grey.astype(np.float32), {}
for times in range(1, 21):
    bytes_now, floats_now = filtered(bytes_now, 5), filtered(floats_now, 5)
    drift[times] = float(bytes_now.mean() - floats_now.mean())
print(f"diameter 5 in a row: 1 time {drift[1]:.2f}, 10 times {drift[10]:.2f}, 20 times {drift[20]:.2f}")
if not (
    all(-0.6 < shift < -0.4 for shift in one[:2])
    and all(abs(shift) < 0.05 for shift in one[2:] + three + without)
    and rounded < 0.6 < 0.9 < cut_off
    and drift[20] < -8
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
