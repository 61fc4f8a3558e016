"""Learns how long one kind of work on a frame takes, by the frame's size, and tells what to reckon with.

Pure: seconds are an argument. For one thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

#: Measurements of a size, and sizes, that are remembered.
REMEMBERED, SIZES = 16, 32


class SizeSeconds:
    """What one kind of work took lately. Before any of a size was measured: `first` and `first_pixel` for each pixel.

    One measurement counts as `most` at most. All in seconds.
    """

    def __init__(self, first: float, first_pixel: float, most: float) -> None:
        self._first, self._first_pixel, self._most = first, first_pixel, most
        self._history: OrderedDict[tuple[int, int], deque[float]] = OrderedDict()

    def expect(self, height: int, width: int) -> float:
        """Return the seconds to reckon with: the upper quartile of the last ones of this size."""
        history = self._history.get((height, width))
        return _upper(history) if history else min(self._most, self._first + self._first_pixel * height * width)

    def learn(self, height: int, width: int, seconds: float) -> None:
        """Remember a measurement."""
        history = self._history.setdefault((height, width), deque(maxlen=REMEMBERED))
        history.append(min(self._most, seconds))
        self._history.move_to_end((height, width))
        while len(self._history) > SIZES:
            self._history.popitem(last=False)


def _upper(values: Iterable[float]) -> float:
    """Return the upper quartile. One slow try in sixteen says nothing of the next."""
    ranking = sorted(values)
    return ranking[3 * len(ranking) // 4]
