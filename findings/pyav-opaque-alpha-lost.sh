#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8, libswscale 9.5): opaque frames of yuva422p become 254, and the last columns of yuva420p anything.
#
# Frames whose alpha plane is 255 everywhere are converted to rgba, as VideoFrame.to_ndarray(format="rgba") does it, at
# every width from 16 to 299. "least" is the smallest alpha that came out, "widths" how many of them are not opaque.
#
# Output seen (CPython 3.11.7, x86-64 with AVX2):
#     PyAV 18.1.0, libswscale 9.5.102
#     format         widths  least  of the first such widths
#     yuva420p           52      0  17 18 19 20 33 34 35 36
#     yuva422p          142    254  16 18 20 22 24 26 28 30
#     yuva444p            0    255
#     yuva420p10le        0    255
#     yuva422p10le        0    255
#     gbrap               0    255
#
# Why it surprises: a program that asks whether a film is transparent finds every opaque one of 4:2:2 to be, by one level;
# and 4:2:0 at widths that are 1 to 4 more than a multiple of 16, where the last columns hold what the memory held before
# (so that it comes and goes, from 41 to 52 widths in three runs). More bits, 4:4:4 and planar RGB are right.
# The alpha plane of the decoded frame itself is right: read that. (The colours of those columns: pyav-rgb-last-columns.sh.)
# Of libswscale's alpha in other conversions there are reports; of these two none was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys

import av

FORMATS = ("yuva420p", "yuva422p", "yuva444p", "yuva420p10le", "yuva422p10le", "gbrap")


def least_alpha(name, width):
    frame = av.VideoFrame(width, 8, name)
    for plane in frame.planes:
        plane.update((b"\xff\x03" if "10" in name else b"\xff\xff") * (plane.buffer_size // 2))
    return int(frame.to_ndarray(format="rgba")[:, :, 3].min())


print(f"PyAV {av.__version__}, libswscale", ".".join(map(str, av.library_versions["libswscale"])))
print("format         widths  least  of the first such widths")
seen = {}
for name in FORMATS:
    found = {width: alpha for width in range(16, 300) if (alpha := least_alpha(name, width)) < 255}
    seen[name] = len(found), min(found.values(), default=255)
    print(f"{name:14} {seen[name][0]:6}  {seen[name][1]:5}  {' '.join(map(str, list(found)[:8]))}".rstrip())
if not (seen["yuva422p"][1] == 254 and seen["yuva420p"][0] and seen["yuva444p"] == seen["gbrap"] == (0, 255)):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
