"""Remembers where the last motion of a stream leads, so that it can be followed without looking for another.

By the frame it was found on: that frame comes again as the next pair's previous one, in this process as the same
object. Forgotten with it. Thread-safe.
"""

from __future__ import annotations

import threading
from typing import NamedTuple
from weakref import WeakKeyDictionary

import cv2
import numpy as np

from model.motion.field import Floats, sample
from service.core.types import Frame

#: Pairs over which one motion is followed: it drifts (`model.motion.previous`).
MOST_PAIRS = 5


class _KnownMotion(NamedTuple):
    flow: Floats  #: hxwx2 at half size, in its pixels: of the frame after, to the frame it is known by
    pairs: int  #: over which it was followed already


class KnownMotions:
    """Flows by the frame that they lead on from; at half size, two bytes a pixel of the frame."""

    def __init__(self) -> None:
        self._motions: WeakKeyDictionary[Frame, _KnownMotion] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def remember(self, current: Frame, flow: Floats) -> None:
        """Remember `flow` HxWx2 in pixels, of the frame after `current`, to `current`."""
        size = max(1, current.width // 2), max(1, current.height // 2)
        half = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA), np.float32)
        half *= np.array([size[0] / current.width, size[1] / current.height], np.float32)
        self._put(current, _KnownMotion(half, 0))

    def knows(self, previous: Frame) -> bool:
        """Tell whether the motion up to `previous` is known and fresh enough to be followed."""
        with self._lock:
            motion = self._motions.get(previous)
        return motion is not None and motion.pairs < MOST_PAIRS

    def follow(self, previous: Frame, current: Frame) -> Floats | None:
        """Return the motion HxWx2 that leads on from `current`, as it was up to `previous`; None if it is not known.

        It is moved along itself by one interval, and remembered as the motion on from `current`.
        """
        with self._lock:
            motion = self._motions.get(previous)
        if motion is None or motion.pairs >= MOST_PAIRS:
            return None
        flow = np.asarray(sample(motion.flow, motion.flow), np.float32)
        self._put(current, _KnownMotion(flow, motion.pairs + 1))
        height, width = flow.shape[:2]
        ratio = np.array([current.width / width, current.height / height], np.float32)
        whole = cv2.resize(flow, (current.width, current.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole * ratio, np.float32)

    def _put(self, current: Frame, motion: _KnownMotion) -> None:
        with self._lock:
            self._motions[current] = motion
