"""Finds frames that only repeat the one before, as FFmpeg's `freezedetect` judges it: by the mean absolute difference.

Its `mpdecimate`, made for this, is not among the filters that PyAV ships.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import av

from service.core.types import Frame

#: FFmpeg's own noise, a thousandth of the range; half an interval, so that one repetition is told.
THRESHOLDS = "noise=0.001:duration=0.5"
_START, _END = "lavfi.freezedetect.freeze_start", "lavfi.freezedetect.freeze_end"


class DuplicateFinder:
    """Push frames of one size in order; each is compared with the last that was no repetition."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._count = 0
        self._is_frozen = False

    def is_duplicate(self, frame: Frame) -> bool:
        """Tell whether this frame repeats what was shown before it."""
        picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
        picture.pts = self._count
        self._count += 1
        if self._graph is None:
            self._graph = self._started(picture)
        self._graph.push(picture)
        metadata = self._graph.pull().metadata
        # Both stand at a frame that ends one repetition of itself: it is none.
        if _END in metadata:
            self._is_frozen = False
        elif _START in metadata:
            self._is_frozen = True
        return self._is_frozen

    def _started(self, picture: av.VideoFrame) -> Any:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1)),
            graph.add("format", "yuv420p"),
            graph.add("freezedetect", THRESHOLDS),
            graph.add("buffersink"),
        ]
        for node, following in pairwise(nodes):
            node.link_to(following)
        graph.configure()
        return graph
