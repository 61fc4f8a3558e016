#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): a JPEG or motion JPEG frame with Exif has side data that cannot be listed at all.
#
# Pillow writes a red picture twice as JPEG, once with an Exif block that says how the camera was held. Both are opened
# as films of one frame, decoded, and their side data listed.
#
# Output seen (CPython 3.11.7):
#     PyAV 18.1.0 FFmpeg 8.1.2
#     plain      64x48, 0 side data
#     with Exif  64x48, ValueError: 31 is not a valid Type
#
# Why it surprises: the pixels are there, the file is what cameras write, and nothing of the Exif was asked for. FFmpeg 8
# hands Exif over as frame side data of a kind (31) that this release of PyAV has no name for, and one kind without a name
# makes all of a frame's side data unreadable, such as the display matrix that says which way is up. So a program that
# looks for that matrix in every frame fails for the first film of such a camera, having worked for all others.
# Known upstream: PyAV-Org/PyAV pull request 2392 completes the table and skips names that a newer FFmpeg may add.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 pillow==13.0.0
cat >"$work/find.py" <<'PY'
import io
import sys

import av
from PIL import Image

print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)
exif = Image.Exif()
exif[0x0112] = 6
outcomes = []
for name, options in (("plain", {}), ("with Exif", {"exif": exif})):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(picture, "JPEG", **options)
    with av.open(io.BytesIO(picture.getvalue()), format="jpeg_pipe") as film:
        frame = next(film.decode(video=0))
    try:
        outcome = f"{len(list(frame.side_data))} side data"
    except ValueError as error:
        outcome = f"ValueError: {error}"
    outcomes.append(outcome)
    print(f"{name:10} {frame.width}x{frame.height}, {outcome}")
if outcomes != ["0 side data", "ValueError: 31 is not a valid Type"]:
    sys.exit("changed: side data of a frame with Exif can be listed, or fails otherwise")
PY
"$work/venv/bin/python" "$work/find.py"
