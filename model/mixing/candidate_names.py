"""The names of what a mixture is made of. Needs neither OpenCV nor numba."""

from __future__ import annotations

#: Every candidate there is, in the order of a head's weights.
NAMES = (
    "projected",
    "carried",
    "fast",
    "turned",
    "farneback",
    "older",
    "still",
    "soft",
    "blurred",
    "network",
    "crisp",
)
#: Those that follow a motion.
MOVED = frozenset({"projected", "carried", "fast", "turned", "farneback", "older"})
