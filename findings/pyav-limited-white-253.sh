#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8, libswscale 9.5): white of a 10-bit film is 253 as rgb24, and "accurate rounding" makes 8 bits so.
#
# Flat frames of limited range, from black (Y 16 of 8 bits, 64 of 10) to white (235, 940), are converted to rgb24: as they
# are, and with the scaler's flag ACCURATE_RND. "exact" is (Y - 16) * 255 / 219.
#
# Output seen (CPython 3.11.7, x86-64):
#     PyAV 18.1.0, libswscale 9.5.102
#     Y of 8 bits             16     64    126    180    235
#     exact                  0.0   55.9  128.1  191.0  255.0
#     yuv420p                  0     55    128    190    255
#     yuv420p, accurate        0     54    126    189    253
#     yuv420p10le              0     54    126    189    253
#     yuv420p10le, accurate    0     54    126    189    253
#     yuv422p10le              0     54    126    189    253
#     yuv444p10le              0     56    128    191    255
#     yuv420p10le as gbrp      0     56    128    191    255
#
# Why it surprises: a film of 10 bits is more exact than one of 8, yet no pixel of it can become white: every value but
# black is up to two levels too dark, where the 8-bit film is right. The flag that promises accurate rounding does not
# mend that; it brings the same error to the 8-bit film. The chroma layout decides (4:4:4 is right, 4:2:0 and 4:2:2 are
# not), although the frames have no colour; and so does the order in memory, as planar RGB (`gbrp`) is right. A program
# that compares decoded frames with pictures, or trains on both, has two levels between them.
# That libswscale trades exactness for speed is known; no report of these figures was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import av
import numpy as np
from av.video.reformatter import Interpolation

LUMA = [16, 64, 126, 180, 235]
ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND


def flat(pixels, luma):
    """A grey frame; `luma` counts 8-bit levels, as 16 for black."""
    scale, kind = (4, np.uint16) if "10" in pixels else (1, np.uint8)
    frame = av.VideoFrame(64, 48, pixels)
    for plane, value in zip(frame.planes, (luma, 128, 128), strict=True):
        count = plane.buffer_size // np.dtype(kind).itemsize
        plane.update(np.full(count, value * scale, kind).tobytes())
    return frame


def red(pixels, to="rgb24", **options):
    levels = []
    for luma in LUMA:
        picture = flat(pixels, luma).reformat(format=to, **options).to_ndarray()
        assert picture.min() == picture.max()
        levels.append(int(picture.max()))
    return levels


def show(name, values, digits=0):
    print(f"{name:21}", *(f"{value:6.{digits}f}" for value in values))
    return values


print(f"PyAV {av.__version__}, libswscale", ".".join(map(str, av.library_versions["libswscale"])))
show("Y of 8 bits", LUMA)
exact = show("exact", [(luma - 16) * 255 / 219 for luma in LUMA], 1)
eight = show("yuv420p", red("yuv420p"))
accurate = show("yuv420p, accurate", red("yuv420p", interpolation=ACCURATE))
ten = show("yuv420p10le", red("yuv420p10le"))
show("yuv420p10le, accurate", red("yuv420p10le", interpolation=ACCURATE))
show("yuv422p10le", red("yuv422p10le"))
full = show("yuv444p10le", red("yuv444p10le"))
planar = show("yuv420p10le as gbrp", red("yuv420p10le", "gbrp"))
right = [round(value) for value in exact]
if not (ten[-1] == accurate[-1] == 253 and eight[-1] == 255 and full == planar == right):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
