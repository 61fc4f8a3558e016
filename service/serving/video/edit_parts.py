"""Lets the parts of an edit list follow each other: behind a cut, FFmpeg's times are off by the decoder's delay.

An MP4 with B-frames that shows parts of itself gives the right pictures, but those behind a cut some frames late, or
before those in front of it have ended.
"""

from __future__ import annotations

from typing import Any

from service.serving.video.timeline import REORDERED


class EditParts:
    """Numbers the parts of a film by its packets, and moves each to where the one before it ends.

    Times are in the film's units. `usual`: how long a frame stays that does not say it.
    """

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._part = 0
        self._shown_since_hidden: int | None = None  #: packets; None: none of this part was hidden
        self._current: int | None = None  #: the part of the frame shown last
        self._offset = self._due = 0

    def number(self, packet: Any) -> int:
        """Return the part that the next packet belongs to: each begins at a key frame, hidden or behind hidden ones."""
        since = self._shown_since_hidden
        if packet.is_keyframe and (packet.is_discard or (since is not None and since <= REORDERED)):
            self._part, self._shown_since_hidden = self._part + 1, None
        if packet.is_discard:
            self._shown_since_hidden = 0
        elif self._shown_since_hidden is not None:
            self._shown_since_hidden += 1
        return self._part

    def moved(self, part: int, pts: int, duration: int) -> int:
        """Return when the next frame is shown. `duration`: how long it stays, 0 where that is not known."""
        if self._current is not None and part != self._current:
            # What lies farther behind was left empty on purpose.
            is_off = pts < self._due + REORDERED * self._usual + 1
            self._offset = self._due - pts if is_off else 0
        self._current = part
        pts += self._offset
        self._due = pts + (duration or self._usual)
        return pts
