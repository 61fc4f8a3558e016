#!/usr/bin/env bash
# PyAV 18.1.0: what packets are labelled with does not reach their frames where two packets have one label.
#
# Every packet of a film of twelve frames is given an object as its `opaque`, and `copy_opaque` is set, so that each decoded
# frame has the one of its packet. The labels are a text for each packet, one text for all, and the number of the group of
# six that the packet belongs to.
#
# Output seen (CPython 3.11.7; how many lose it varies, in ten runs from 4 to 9):
#     PyAV 18.1.0
#     a text for each       1 thread : 12 frames, 0 without a label
#     one text for all      1 thread : 12 frames, 8 without a label
#     number of its group   1 thread : 12 frames, 4 without a label
#     a text for each       4 threads: 12 frames, 0 without a label
#     one text for all      4 threads: 12 frames, 8 without a label
#     number of its group   4 threads: 12 frames, 8 without a label
#
# Why it surprises: an opaque label is any object of the caller's, it works for the first frames, and a test with a label
# for each packet, or with a film of few frames, passes. Then frames come with None: labels are kept by their address, and
# the first of the packets with one label that is freed takes it away from all others. Small integers, texts of the
# program and members of an enumeration are one object wherever they are used: a camera's name, a part's number. The way
# around is an object of its own for each packet, such as a list that holds the label.
# Not found upstream in a search of its issues; that labels are kept by address is from pull request 1965.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import io
import sys

import av
import numpy as np

COUNT, GROUP = 12, 6
LABELS = {
    "a text for each": lambda number: f"picture {number}",
    "one text for all": lambda number: "left camera",
    "number of its group": lambda number: number // GROUP,
}


def film():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 20, np.uint8), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def labels(label, threads):
    """Label every packet, decode, and return the labels of the frames."""
    received = []
    with av.open(film()) as source:
        stream = source.streams.video[0]
        stream.codec_context.copy_opaque = True
        stream.codec_context.thread_count = threads
        for number, packet in enumerate(source.demux(stream)):
            packet.opaque = label(number)
            received += [frame.opaque for frame in packet.decode()]
    return received


print("PyAV", av.__version__)
has_changed = False
for threads in (1, 4):
    for name, label in LABELS.items():
        received = labels(label, threads)
        lost = received.count(None)
        print(f"{name:21} {threads} thread{'s' if threads > 1 else ' '}: {len(received)} frames, {lost} without a label")
        has_changed = has_changed or len(received) != COUNT or (lost > 0) is (name == "a text for each")
if has_changed:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
