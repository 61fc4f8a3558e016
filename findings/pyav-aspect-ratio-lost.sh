#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): the shape of a film's pixels is kept or lost depending on codec and container, without a word.
#
# Two frames are written with `stream.sample_aspect_ratio = 64/45` (16:9 on PAL television), to several pairs of container
# and codec, and the ratio is read back from the file.
#
# Output seen (CPython 3.11.7):
#     PyAV 18.1.0
#     the encoder's ratio after it was set: 64/45
#     mp4          libx264          64/45
#     mp4          mpeg4            64/45
#     matroska     libx264          64/45
#     matroska     ffv1             None
#     avi          ffv1             None
#     nut          ffv1             None
#     yuv4mpegpipe wrapped_avframe  None
#
# Why it surprises: the attribute is accepted, the encoder has it and it is right in MP4, so that a test with MP4 passes;
# the same lines write a lossless film or y4m whose picture is three tenths too narrow. PyAV sets the ratio of the encoder.
# Where that stands in the coded film, or the muxer looks there (MP4), it arrives; Matroska, AVI, NUT and y4m take it from
# the output stream, which nothing in PyAV sets. A program has to write it into the file itself, as one can with y4m's
# first line, or choose another codec.
# Known upstream: PyAV-Org/PyAV issue 764, for FFV1, closed as stale.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0
cat >"$work/find.py" <<'PY'
import io
import sys
from fractions import Fraction

import av

RATIO = Fraction(64, 45)


def read_back(container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.sample_aspect_ratio = RATIO
        held = stream.codec_context.sample_aspect_ratio
        for number in range(2):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        return held, source.streams.video[0].sample_aspect_ratio


av.logging.set_level(av.logging.ERROR)
print("PyAV", av.__version__)
kept = [("mp4", "libx264"), ("mp4", "mpeg4"), ("matroska", "libx264")]
lost = [("matroska", "ffv1"), ("avi", "ffv1"), ("nut", "ffv1"), ("yuv4mpegpipe", "wrapped_avframe")]
results = {pair: read_back(*pair) for pair in kept + lost}
print("the encoder's ratio after it was set:", *{held for held, _ in results.values()})
for (container, codec), (_, ratio) in results.items():
    print(f"{container:12} {codec:16} {ratio}")
if any(results[pair] != (RATIO, RATIO) for pair in kept) or any(results[pair] != (RATIO, None) for pair in lost):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
