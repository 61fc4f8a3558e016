#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): of an animated AVIF the first video stream has one frame; the animation is the second one.
#
# Twelve grey pictures are written as an animated AVIF, by Pillow 13.0.0 and by PyAV's own writer, and as MP4 and GIF. Each
# file is opened, and the frames of each video stream are counted as `decode(video=...)` gives them.
#
# Output seen (CPython 3.11.7, x86-64):
#     PyAV 18.1.0
#     written by       frames of each stream  rates   best stream
#     AVIF by Pillow   1 12                   1 25    1
#     AVIF by PyAV     1 12                   1 25    1
#     GIF by Pillow    12                     25      0
#     MP4 by PyAV      12                     25      0
#
# Why it surprises: container.decode(video=0) and streams.video[0] are how nearly every program reads a film. Here they
# give one frame and no error, even of a file that the same library wrote from one stream of twelve; a loop over a folder
# counts such files as stills. An AVIF with an animation has to hold a still picture for readers that know no more, and
# FFmpeg shows that as a stream before the track, of the same size, and marked as default as the track is.
# `container.streams.best("video")` finds the animation.
# hydrusnetwork/hydrus issue 1891 has the symptom, AVIF animations of "1 frame"; about PyAV nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6 pillow==13.0.0
cat >"$work/find.py" <<'PY'
import io
import os
import sys

os.environ["SVT_LOG"] = "1"
import av
import numpy as np
from PIL import Image

PICTURES = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(12)]


def by_pillow(kind):
    file = io.BytesIO()
    first, *others = map(Image.fromarray, PICTURES)
    first.save(file, kind, save_all=True, append_images=others, duration=40)
    return file.getvalue()


def by_pyav(kind, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(PICTURES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def streams(data):
    """Return each video stream's frames and rate, and which one FFmpeg calls the best."""
    counts, rates, best = [], [], None
    with av.open(io.BytesIO(data)) as source:
        best = source.streams.video.index(source.streams.best("video"))
        rates = [str(stream.average_rate) for stream in source.streams.video]
    for number in range(len(rates)):
        with av.open(io.BytesIO(data)) as source:
            counts.append(sum(1 for _ in source.decode(video=number)))
    return counts, rates, best


files = {
    "AVIF by Pillow": by_pillow("AVIF"),
    "AVIF by PyAV": by_pyav("avif", "libsvtav1"),
    "GIF by Pillow": by_pillow("GIF"),
    "MP4 by PyAV": by_pyav("mp4", "libx264"),
}
print("PyAV", av.__version__)
print("written by       frames of each stream  rates   best stream")
seen = {}
for name, data in files.items():
    counts, rates, best = seen[name] = streams(data)
    print(f"{name:16} {' '.join(map(str, counts)):22} {' '.join(rates):7} {best}")
avif, others = ([1, 12], ["1", "25"], 1), ([12], ["25"], 0)
if list(seen.values()) != [avif, avif, others, others]:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
