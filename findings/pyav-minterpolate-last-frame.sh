#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): the filter `minterpolate` never shows a film's last frame, and nothing at all of two frames.
#
# Films of one to ten grey frames at 10 a second, without loss, are decoded and put through the filters that change the rate, to
# 20 frames a second: minterpolate (by motion, by blending, and by repeating frames), framerate and fps. Printed is how many
# frames come out and the time of the last one. Then minterpolate is to make 10 frames a second of 10, which needs no new one;
# printed is which of the ten frames, 0 to 9, come out. Last, a film of the levels 20 and 40 is blended, as it is, and with
# its last frame handed in once more, a tenth of a second later.
#
# Output seen (CPython 3.11.7; frames, and the last one's time in seconds):
#     PyAV 18.1.0
#     frames of the film           1        2        3        4        10
#     its last frame at          0.00     0.10     0.20     0.30     0.90
#     minterpolate             0 -      0 -      3 0.10   5 0.20  17 0.80
#     minterpolate, blended    0 -      0 -      3 0.10   5 0.20  17 0.80
#     minterpolate, repeated   0 -      0 -      3 0.10   5 0.20  17 0.80
#     framerate                1 0.00   4 0.15   6 0.25   8 0.35  20 0.95
#     fps                      2 0.05   4 0.15   6 0.25   8 0.35  20 0.95
#     minterpolate, 10 frames a second of 10: 0 1 2 3 4 5 6 7 8
#     of two frames, 20 and 40: [] the last one twice: [20, 30, 40]
#
# Why it surprises: between two frames one can interpolate, and a film of two gives none, without an error: the file is
# empty. A longer one ends an interval early: the last frame, which exists, is left out, and so is all between it and the
# one before, although the other two filters show it and even keep it for its own time. Comparing methods of interpolation
# frame by frame, with minterpolate as the simple one, finds its films short; joined segments lose a frame at each seam,
# and sound is longer than the picture. The way around is to hand in the last frame once more, as if it came an interval
# later.
# Not found among the issues searched; FFmpeg's own tracker could not be.
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

LENGTHS = 1, 2, 3, 4, 10
FILTERS = {
    "minterpolate": [("minterpolate", "fps=20")],
    "minterpolate, blended": [("minterpolate", "fps=20:mi_mode=blend")],
    "minterpolate, repeated": [("minterpolate", "fps=20:mi_mode=dup")],
    "framerate": [("framerate", "fps=20")],
    "fps": [("fps", "fps=20")],
}


def film(length):
    """A film of frames whose levels are 20, 40, 60 and so on."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        for number in range(length):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64), 20 * (number + 1), np.uint8), "gray")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    return file


def filtered(length, chain, again=0):
    """The frames that come out of `chain` for a film whose last frame is handed in `again` more times."""
    frames = []

    def pull():
        while True:
            try:
                frames.append(graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    with av.open(film(length)) as container:
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=container.streams.video[0])]
        nodes += [graph.add(*settings) for settings in chain] + [graph.add("buffersink")]
        for node, following in zip(nodes, nodes[1:], strict=False):
            node.link_to(following)
        graph.configure()
        for frame in container.decode(video=0):
            graph.push(frame)
            pull()
        for _ in range(again):
            frame.pts += frame.duration
            graph.push(frame)
            pull()
        graph.push(None)
        pull()
    return frames


print("PyAV", av.__version__)
print("frames of the film     ", *(f"{length:7} " for length in LENGTHS))
print("its last frame at      ", *(f"{(length - 1) / 10:8.2f}" for length in LENGTHS))
counts, ends = {}, {}
for name, chain in FILTERS.items():
    cells = []
    for length in LENGTHS:
        frames = filtered(length, chain)
        counts[name, length] = len(frames)
        ends[name, length] = round(float(frames[-1].time), 2) if frames else None
        cells.append(f"{len(frames):3} " + (f"{ends[name, length]:4.2f}" if frames else "-   "))
    print(f"{name:23}", *cells)
same = filtered(10, [("minterpolate", "fps=10:mi_mode=dup")])
numbers = [int(frame.to_ndarray().mean()) // 20 - 1 for frame in same]
print("minterpolate, 10 frames a second of 10:", *numbers)
blended = FILTERS["minterpolate, blended"]
levels = [[int(frame.to_ndarray().mean()) for frame in filtered(2, blended, again)] for again in (0, 1)]
print("of two frames, 20 and 40:", levels[0], "the last one twice:", levels[1])
minterpolate = [name for name in FILTERS if name.startswith("minterpolate")]
if not (
    all(counts[name, length] == (2 * length - 3 if length > 2 else 0) for name in minterpolate for length in LENGTHS)
    and all(ends[name, 10] == 0.8 for name in minterpolate)
    and all(counts[name, length] == 2 * length for name in ("framerate", "fps") for length in LENGTHS[1:])
    and numbers == list(range(9))
    and levels == [[], [20, 30, 40]]
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
