#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8, libswscale 9.5): the last columns of an 8-bit film are not converted to planar or 16-bit RGB.
#
# Frames of one colour are converted to several kinds of RGB, as VideoFrame.to_ndarray(format=...) does it, at every width
# from 2 to 199 and at two common ones. "widths" is how many of those pictures are not of one colour, "columns" how many
# columns are not, at most, "first" the first such widths.
#
# Output seen (CPython 3.11.7, x86-64 with AVX2; of rgba fewer where the memory held that colour before):
#     PyAV 18.1.0, libswscale 9.5.102
#     film     picture  widths  columns  first
#     yuv420p  rgb24         0        0
#     yuv420p  gbrp         95        8  17 18 19 20 21 22 23 24 33 34
#     yuv420p  rgba         48        4  17 18 19 20 33 34 35 36 49 50
#     yuv420p  rgb48le      99        1  3 5 7 9 11 13 15 17 19 21
#     yuv422p  rgb24         0        0
#     yuv422p  gbrp         95        8  17 18 19 20 21 22 23 24 33 34
#     yuv422p  rgba         48        4  17 18 19 20 33 34 35 36 49 50
#     yuv422p  rgb48le      99        1  3 5 7 9 11 13 15 17 19 21
#     yuv444p  rgb24         0        0
#     yuv444p  gbrp          0        0
#     yuv444p  rgba          0        0
#     yuv444p  rgb48le       0        0
#     yuv420p as gbrp: 6 columns of 854, 8 columns of 1080
#
# Why it surprises: every program asks for red, green and blue, and how they lie in memory is a matter of convenience.
# rgb24 is right at all widths, so a test with it passes; planes, which whoever feeds a network wants, lack up to eight
# columns at half of all widths, those of 854x480 and of a phone held upright (1080) among them, and 16 bits lack the last
# column of odd ones. The conversion does not set those pixels. 4:4:4 is right. The way around is rgb24, turned into
# planes afterwards.
# cloudofoz/raylib-media issue 12 met missing columns through the same library; of these formats no report was found.
# pyav-opaque-alpha-lost.sh is about the alpha of such columns.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import av
import numpy as np

WIDTHS = range(2, 200)
COLOUR = {"Y": 120, "U": 90, "V": 160}


def converted(source, target, width):
    frame = av.VideoFrame(width, 8, source)
    for plane, level in zip(frame.planes, COLOUR.values(), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    return frame.to_ndarray(format=target)


def wrong_columns(picture):
    return int((picture != picture[0, 0]).any(axis=(0, 2)).sum())


av.logging.set_level(None)
print(f"PyAV {av.__version__}, libswscale {'.'.join(map(str, av.library_versions['libswscale']))}")
print("film     picture  widths  columns  first")
results = {}
for source in "yuv420p", "yuv422p", "yuv444p":
    for target in "rgb24", "gbrp", "rgba", "rgb48le":
        wrong = {width: wrong_columns(converted(source, target, width)) for width in WIDTHS}
        widths = [width for width in WIDTHS if wrong[width]]
        results[source, target] = widths
        row = f"{source:8} {target:8} {len(widths):6}  {max(wrong.values()):7}  {' '.join(map(str, widths[:10]))}"
        print(row.rstrip())
common = {width: wrong_columns(converted("yuv420p", "gbrp", width)) for width in (854, 1080)}
print("yuv420p as gbrp:", ", ".join(f"{count} columns of {width}" for width, count in common.items()))
subsampled = [results[source, target] for source in ("yuv420p", "yuv422p") for target in ("gbrp", "rgba", "rgb48le")]
right = [results["yuv444p", target] for target in ("gbrp", "rgba", "rgb48le", "rgb24")]
right += [results["yuv420p", "rgb24"], results["yuv422p", "rgb24"]]
if any(right) or not all(len(widths) > 20 for widths in subsampled) or not all(common.values()):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
