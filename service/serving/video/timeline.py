"""The clock of a clip's packets: it begins at 0 where the container's runs on, and never jumps.

Recordings that were joined, or a recorder that was restarted, make it jump; players and encoders take no such times.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

#: Seconds that a packet may lie before the one before it in its track: muxers are that careless.
BACK = Fraction(1, 10)
#: Packets by which it may lie before it: where a container tells when frames are shown, and not when they are decoded.
REORDERED = 4
#: Seconds of silence in a broadcast's clock that are a jump of the clock and no pause.
FORWARD = Fraction(10)
#: Seconds at which a clip with a clock of its own may begin; what begins later was cut from something long.
LATEST_START = Fraction(10)


@dataclass(slots=True)
class _TrackClock:
    jumps: int = 0  #: how many of the clip's jumps it has passed
    last: Fraction | None = None  #: the time of its last packet, and where the next is due, both as shown
    due: Fraction = Fraction(0)


class Timeline:
    """Moves packets' times, in seconds. `is_broadcast`: the container's clock starts anywhere and may jump ahead."""

    def __init__(self, start: Fraction, *, is_broadcast: bool) -> None:
        is_moved = start > 0 and (is_broadcast or start >= LATEST_START)
        #: What is taken off after each jump; tracks pass the same jumps, each at its own packet, and stay in step.
        self._offsets = [start if is_moved else Fraction(0)]
        self._is_broadcast = is_broadcast
        self._tracks: dict[int, _TrackClock] = {}

    def offset(self, track: int, time: Fraction | None, duration: Fraction) -> Fraction:
        """Return what to take off this packet's times; `time` is when it is decoded, None if that is not told."""
        clock = self._tracks.setdefault(track, _TrackClock())
        if time is None:
            return self._offsets[clock.jumps]
        back = max(BACK, REORDERED * duration)
        while self._jumps(clock, time - self._offsets[clock.jumps], back):
            clock.jumps += 1
            if clock.jumps == len(self._offsets):
                self._offsets.append(time - clock.due)
            elif not self._is_near(clock, time):
                continue
            break
        offset = self._offsets[clock.jumps]
        clock.last = time - offset
        clock.due = clock.last + duration
        return offset

    def _jumps(self, clock: _TrackClock, time: Fraction, back: Fraction) -> bool:
        if clock.last is None:
            return False
        return time < clock.last - back or (self._is_broadcast and time > clock.due + FORWARD)

    def _is_near(self, clock: _TrackClock, time: Fraction) -> bool:
        """Tell whether another track's jump explains this one: then both keep their distance."""
        return abs(time - self._offsets[clock.jumps] - clock.due) < 1
