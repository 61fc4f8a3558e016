"""A bounded number of places that holders take by turns: one with much to do does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """`places` at once; a free one goes to the holder whose last turn is longest ago. Knows nothing of what is done."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, holder: str) -> AsyncIterator[None]:
        """A place while it lasts."""
        await self._take(holder)
        try:
            yield
        finally:
            self._free += 1
            self._hand_on()

    async def _take(self, holder: str) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given the place in the same moment
                self._free += 1
            self._hand_on()
            raise

    def _hand_on(self) -> None:
        while self._free and self._waiting:
            holder, places = self._waiting.popitem(last=False)
            while places and places[0].done():  # whoever waited has left
                places.popleft()
            if not places:
                continue
            places.popleft().set_result(None)
            self._free -= 1
            if places:
                self._waiting[holder] = places  # at the end of the row
