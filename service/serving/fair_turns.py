"""A bounded number of places that holders take by turns: one with much to do does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """`places` at once, `most_of_one` of them a holder's; a free one goes to whose last turn is longest ago."""

    def __init__(self, places: int, most_of_one: int | None = None) -> None:
        self._free = places
        self._most = most_of_one or places
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def is_free(self, holder: str) -> bool:
        """Tell whether this holder would have a place at once."""
        return bool(self._free) and not self._waiting and self._running[holder] < self._most

    @asynccontextmanager
    async def turn(self, holder: str) -> AsyncIterator[None]:
        """Wait for a place and hold it while the context lasts."""
        await self._take(holder)
        try:
            yield
        finally:
            self._give_back(holder)

    async def _take(self, holder: str) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(place)
        self._hand_on()
        if place.done():
            return
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given the place in the same moment
                self._give_back(holder)
            else:
                self._forget(holder, place)
            raise

    def _give_back(self, holder: str) -> None:
        self._free += 1
        self._running -= Counter({holder: 1})
        self._hand_on()

    def _forget(self, holder: str, place: asyncio.Future[None]) -> None:
        places = self._waiting[holder]
        places.remove(place)
        if not places:
            del self._waiting[holder]

    def _hand_on(self) -> None:
        while self._free:
            holder = next((name for name in self._waiting if self._running[name] < self._most), None)
            if holder is None:
                return
            places = self._waiting.pop(holder)
            places.popleft().set_result(None)
            self._free -= 1
            self._running[holder] += 1
            if places:
                self._waiting[holder] = places  # at the end of the row
