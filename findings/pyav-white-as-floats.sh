#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8, libswscale 9.5): white is 0.918 as a grey float, 0.996 as an RGB float, and 1020 of 1023 in 10 bits.
#
# White frames of 8 bits (RGB, grey, and a film's yuv420p of limited range) and of 16 bits are converted to pixel formats of
# floats and of more bits, as VideoFrame.to_ndarray(format=...) does it. Printed is what white has become, as a share of
# the format's largest value (1 for floats). Then the grey ramp 0, 64, 128, 192, 255 as floats, times 255.
#
# Output seen (CPython 3.11.7, x86-64):
#     PyAV 18.1.0, libswscale 9.5.102
#     white of     gray10le  gray16le grayf32le  gbrp10le  gbrp16le gbrpf32le
#     rgb24          1.0000    1.0000    0.9180    0.9971    0.9962    0.9962
#     gray           1.0000    1.0000    1.0000    0.9971    0.9961    0.9961
#     yuv420p        1.0000    1.0000    0.9180    0.9971    0.9962    0.9962
#     rgb48le        1.0000    1.0000    0.9213    1.0000    1.0000    1.0000
#     gray16le       1.0000    1.0000    1.0000    1.0000    1.0000    1.0000
#     the ramp 0 64 128 192 255
#     rgb24 as grayf32le  15.9  70.7 125.4 180.2 234.1
#     rgb24 as gbrpf32le   0.0  63.8 127.5 191.3 254.0
#
# Why it surprises: floats are what a network is fed, and a format that has them promises 0 to 1. Grey floats of a colour
# picture are those of limited range (black is 0.06, white 0.92), while the same picture as grey of 8, 10 or 16 bits, and
# a grey one as grey floats, are of full range. RGB of more bits, and of floats made by way of them, is the 8-bit value
# shifted: black is right, white is a level of 256 short, so that the frame of an 8-bit film is darker than that of a 16-bit
# one, and a comparison with 1.0 finds no white. rgb24 or gray, divided by 255, is exact.
# Not found upstream in a search of issues.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import av
import numpy as np

TARGETS = "gray10le", "gray16le", "grayf32le", "gbrp10le", "gbrp16le", "gbrpf32le"
RAMP = 0, 64, 128, 192, 255


def grey(level, pixels):
    """A frame of `level`, 0 to 255, all over, in the format `pixels`."""
    if pixels == "gray16le":
        return av.VideoFrame.from_ndarray(np.full((48, 64), level * 257, np.uint16), pixels)
    if pixels == "rgb48le":
        return av.VideoFrame.from_ndarray(np.full((48, 64, 3), level * 257, np.uint16), pixels)
    if pixels == "gray":
        return av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), pixels)
    return av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24").reformat(format=pixels)


def share(frame, target):
    """A pixel of the middle, of the format's largest value, once `frame` is converted to `target`."""
    converted = frame.reformat(format=target)
    bits = converted.format.components[0].bits
    kind, largest = (np.float32, 1) if "f32" in target else (np.uint16, 2**bits - 1)
    plane = converted.planes[0]
    rows = np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)
    return float(rows[24, 32]) / largest


print(f"PyAV {av.__version__}, libswscale", ".".join(map(str, av.library_versions["libswscale"])))
print("white of    ", *(f"{target:>9}" for target in TARGETS))
white = {}
for pixels in "rgb24", "gray", "yuv420p", "rgb48le", "gray16le":
    for target in TARGETS:
        white[pixels, target] = share(grey(255, pixels), target)
    print(f"{pixels:12}", *(f"{white[pixels, target]:9.4f}" for target in TARGETS))
print("the ramp", *RAMP)
ramps = {}
for target in "grayf32le", "gbrpf32le":
    ramps[target] = [255 * share(grey(level, "rgb24"), target) for level in RAMP]
    print(f"rgb24 as {target} ", *(f"{value:5.1f}" for value in ramps[target]))
if not (
    all(round(white["rgb24", target], 3) == value for target, value in {"grayf32le": 0.918, "gbrpf32le": 0.996}.items())
    and white["rgb24", "gbrp10le"] == 1020 / 1023
    and round(ramps["grayf32le"][0]) == 16
    and white["gray", "grayf32le"] == white["rgb24", "gray16le"] == white["rgb48le", "gbrpf32le"] == 1
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
