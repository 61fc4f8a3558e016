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
        places = self._waiting.get(holder, ())
        if place in places:
            self._waiting[holder].remove(place)
            self._drop_empty(holder)

    def _hand_on(self) -> None:
        while self._free and (holder := self._next_holder()) is not None:
            places = self._waiting.pop(holder)
            places.popleft().set_result(None)
            self._free -= 1
            self._running[holder] += 1
            if places:
                self._waiting[holder] = places  # at the end of the row

    def _next_holder(self) -> str | None:
        """Return who waits longest of those that may have one more place; the first of its futures is open then."""
        for holder, places in list(self._waiting.items()):
            # Whoever is cancelled has a cancelled future at once, and takes it out of the row only a turn later.
            while places and places[0].done():
                places.popleft()
            self._drop_empty(holder)
            if places and self._running[holder] < self._most:
                return holder
        return None

    def _drop_empty(self, holder: str) -> None:
        if not self._waiting[holder]:
            del self._waiting[holder]
