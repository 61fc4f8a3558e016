"""Picks which frames of a stream are scored where nobody is told of each: a few that follow one another, now and then.

Knows no frames and no scores.
"""

from __future__ import annotations

#: Of EVERY frames the first RUN are compared: a prediction from each but the last has its truth among them. A prime
#: number, so that it does not fall on the same frames of each group that a camera encodes together.
EVERY, RUN = 31, 4


def begins_run(sequence: int) -> bool:
    """Tell whether a frame, counted from 0, is the first of those that are compared together."""
    return sequence % EVERY == 0


def is_truth(sequence: int) -> bool:
    """Tell whether a frame is compared with what was predicted for its time."""
    return sequence % EVERY < RUN


def has_truth(sequence: int) -> bool:
    """Tell whether what is predicted from a frame is compared with the frames that follow it."""
    return sequence % EVERY < RUN - 1
