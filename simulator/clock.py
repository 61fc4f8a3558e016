"""A simulated clock: events in the order of their times, arrivals drawn one at a time, nothing in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any


class Clock:
    """`now` in simulated seconds. Events of one instant happen in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` at the time `when`; at once if that is past."""
        self.events += 1
        heapq.heappush(self._heap, (when if when > self.now else self.now, self.events, action, arguments))

    def run(self, arrivals: Iterator[float], arrive: Callable[[], None]) -> None:
        """Run all arrivals and all they lead to, until no event is left."""
        coming = next(arrivals, None)
        while self._heap or coming is not None:
            if coming is not None and (not self._heap or coming <= self._heap[0][0]):
                self.now = coming
                arrive()
                coming = next(arrivals, None)
            else:
                self.now, _, action, arguments = heapq.heappop(self._heap)
                action(*arguments)
