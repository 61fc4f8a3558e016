#!/usr/bin/env bash
# Pillow 13.0.0: an enlarged picture that is turned afterwards is another than one that is turned and then enlarged.
#
# Grey pictures of black and white (a cross and a dot, diagonal lines, noise) are enlarged from 64x64 to 160x160 by each
# filter, once as they are and once with rows and columns exchanged, which is undone afterwards: in 8 bits, and as floats
# (mode F) whose result is clipped to 0..255 and rounded. Printed is the largest difference of a pixel, in levels of 255.
#
# Output seen (CPython 3.11.7):
#     Pillow 13.0.0
#                             BOX BILINEAR  HAMMING  BICUBIC  LANCZOS
#     cross  8 bits             0        1        1       24       42
#     cross  floats             0        0        0        0        0
#     lines  8 bits             0        1        1       21       33
#     lines  floats             0        0        0        0        0
#     noise  8 bits             0        1        1       26       54
#     noise  floats             0        0        0        1        0
#
# Why it surprises: the filters are the same along both sides, so that exchanging the sides should change nothing but
# a rounding. With those that overshoot (bicubic and Lanczos; not bilinear, box or Hamming) edges differ by up to a fifth of the
# whole range, which anybody sees beside each other. The rows are resized first and put into 8 bits, so that what goes beyond
# black and white is cut off before the columns are resized, which would have brought it back. Results so depend on
# whether a picture is upright, and a model's input on whether it was turned before or after: as floats all is well.
# Known upstream in part: PyTorch met it when it followed Pillow (pytorch/pytorch pull request 90771), whose 8-bit bicubic
# does the same; about turned pictures nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import numpy as np
import PIL
from PIL import Image

SIDE, LARGER = 64, (160, 160)
FILTERS = ["BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"]
OVERSHOOTING = {"BICUBIC", "LANCZOS"}


def pictures():
    cross = np.zeros((SIDE, SIDE), np.uint8)
    cross[20:40, 20:22] = cross[30:32, 10:50] = cross[10, 10] = 255
    rows, columns = np.mgrid[:SIDE, :SIDE]
    lines = np.where((rows - 2 * columns) % 7 == 0, 255, 0).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 2, (SIDE, SIDE), np.uint8) * 255
    return {"cross": cross, "lines": lines, "noise": noise}


def enlarged(pixels, name):
    larger = np.asarray(Image.fromarray(pixels).resize(LARGER, Image.Resampling[name]))
    return np.rint(larger.clip(0, 255)).astype(int)


def difference(pixels, name):
    turned = enlarged(np.ascontiguousarray(pixels.T), name).T
    return int(np.abs(enlarged(pixels, name) - turned).max())


print("Pillow", PIL.__version__)
print(f"{'':18}", *(f"{name:>8}" for name in FILTERS))
has_changed = False
for title, pixels in pictures().items():
    for kind in (np.uint8, np.float32):
        levels = {name: difference(pixels.astype(kind), name) for name in FILTERS}
        print(f"{title:6} {'8 bits' if kind is np.uint8 else 'floats':11}", *(f"{levels[name]:8}" for name in FILTERS))
        for name, level in levels.items():
            is_large = kind is np.uint8 and name in OVERSHOOTING
            has_changed = has_changed or (level < 15 if is_large else level > 1)
if has_changed:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
