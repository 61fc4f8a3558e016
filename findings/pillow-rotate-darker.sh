#!/usr/bin/env bash
# Pillow 13.0.0: a picture that is rotated or moved gets half a level darker each time; a resized one does not.
#
# Grey noise, softened, is rotated, moved by half a pixel (Image.transform) and resized, with BILINEAR and BICUBIC: in 8 bits
# and as floats (mode F). Printed is by how much the mean of the 8 bits is above that of the floats, inside of a margin,
# and how many pixels are the float's value cut off to a whole number. Then the picture is moved by half a pixel and back
# again, up to ten times.
#
# Output seen (CPython 3.11.7, x86-64):
#     Pillow 13.0.0
#                               BILINEAR        BICUBIC
#     rotate by 0.5 degrees   -0.50  100 %    -0.50  100 %
#     rotate by 7 degrees     -0.50  100 %    -0.50  100 %
#     move by half a pixel    -0.25  100 %    -0.44  100 %
#     resize to 1.5           +0.17   37 %    +0.02   48 %
#     there and back, 1 time  -0.50           -0.87
#     5 times                 -2.49           -4.38
#     10 times                -4.98           -8.76
#
# Why it surprises: a turned photo shows the same things in the same light, and resize, with the same two filters, rounds.
# Rotation and the affine, perspective and quad transforms cut every value off. A level is not seen; but it is always
# downwards and adds up, so that the augmented half of a training set is darker than the other, a frame that is
# straightened is darker than its neighbours, and a mean of registered frames is too low. Going through mode F and
# rounding is exact.
# Nothing was found upstream; python-pillow/Pillow pull request 2022 mended where these transforms read, not how they round.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import numpy as np
import PIL
from PIL import Image, ImageFilter

noise = np.random.default_rng(0).integers(40, 216, (240, 320), dtype=np.uint8)
AS_BYTES = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
AS_FLOATS = AS_BYTES.convert("F")
FILTERS = {"BILINEAR": Image.Resampling.BILINEAR, "BICUBIC": Image.Resampling.BICUBIC}


def move(picture, pixels, kind):
    return picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, pixels, 0, 1, 0), kind)


CHANGES = {
    "rotate by 0.5 degrees": lambda picture, kind: picture.rotate(0.5, kind),
    "rotate by 7 degrees": lambda picture, kind: picture.rotate(7, kind),
    "move by half a pixel": lambda picture, kind: move(picture, 0.5, kind),
    "resize to 1.5": lambda picture, kind: picture.resize((480, 360), kind),
}


def inside(picture):
    return np.asarray(picture, np.float64)[60:180, 80:240]


print("Pillow", PIL.__version__)
print(" " * 26 + "BILINEAR        BICUBIC")
shift, cut = {}, {}
for name, change in CHANGES.items():
    cells = []
    for kind, resampling in FILTERS.items():
        levels, exact = inside(change(AS_BYTES, resampling)), inside(change(AS_FLOATS, resampling))
        shift[name, kind] = float((levels - exact).mean())
        cut[name, kind] = float((levels == np.floor(exact + 1e-3)).mean())
        cells.append(f"{shift[name, kind]:+.2f} {cut[name, kind]:5.0%}".replace("%", " %"))
    print(f"{name:23} {'    '.join(cells)}")
pictures = {kind: (AS_BYTES, AS_FLOATS) for kind in FILTERS}
for times in range(1, 11):
    for kind, resampling in FILTERS.items():
        pictures[kind] = tuple(move(move(picture, 0.5, resampling), -0.5, resampling) for picture in pictures[kind])
        shift[times, kind] = float(inside(pictures[kind][0]).mean() - inside(pictures[kind][1]).mean())
    if times in (1, 5, 10):
        name = "there and back, 1 time" if times == 1 else f"{times} times"
        print(f"{name:23} {shift[times, 'BILINEAR']:+.2f}           {shift[times, 'BICUBIC']:+.2f}")
turned = [case for case in cut if "resize" not in case[0]]
if any(shift[case] > -0.2 or cut[case] < 0.99 for case in turned) or shift[10, "BILINEAR"] > -4:
    sys.exit("rotations are not cut off any more")
if any(cut[case] > 0.7 for case in cut if case not in turned):
    sys.exit("resizing cuts off, too")
PY
"$work/venv/bin/python" "$work/find.py"
