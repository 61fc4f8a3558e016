"""Which live streams are open: how many may be, how much they may hold, and how they learn that the server stops.

Knows nothing of what a stream does. One object for the whole service, shared by gRPC and WebSocket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.core.errors import ClientLimit, QueueFull, Unavailable
from service.serving.byte_budget import ByteBudget, ByteHolding

#: Seconds after which a refused stream may try again: streams end when people stop watching.
RETRY_S = 5.0


@dataclass(slots=True, eq=False)
class StreamSlot:
    """One open stream's share: the frame that it keeps, and its unread answers; it is told of a drain by `on_drain`."""

    _streams: Streams
    client: str
    on_drain: Callable[[], object]
    _holding: ByteHolding | None = None  #: answers count among all that is in flight
    held: int = 0
    owed: int = 0

    def hold_frame(self, nbytes: int, limit: int) -> None:
        """Set this stream's kept frames to `nbytes`. Raises QueueFull if all streams would keep more than `limit`."""
        if self._streams.held - self.held + nbytes > limit:
            raise QueueFull(
                f"live streams already hold {self._streams.held} bytes of frames", retry_after=RETRY_S, field="frame"
            )
        self._streams.held += nbytes - self.held
        self.held = nbytes

    def reserve_answer(self, nbytes: int, limit: int) -> None:
        """Reserve `nbytes` for an answer begun. Raises QueueFull if all streams' unread ones would exceed `limit`.

        One alone is always allowed: how large it may be is bounded elsewhere.
        """
        if self._streams.owed and self._streams.owed + nbytes > limit:
            raise QueueFull(f"live streams already owe {self._streams.owed} bytes of answers", retry_after=RETRY_S)
        if self._holding is not None:
            self._holding.grow(nbytes)
        self._streams.owed += nbytes
        self.owed += nbytes

    def release_answer(self, nbytes: int) -> None:
        """Release `nbytes` of an answer that has been read, or came to nothing."""
        if self._holding is not None:
            self._holding.shrink(nbytes)
        self._streams.owed -= nbytes
        self.owed -= nbytes


class Streams:
    """Open streams. Idle ones cost a place among `most`, never a thread or a place in the queue."""

    def __init__(self) -> None:
        self.held = 0  #: bytes of frames kept between frames, by all streams
        self.owed = 0  #: bytes of answers begun and not yet read, of all streams
        self.budget: ByteBudget | None = None  #: of all that is in flight, where there is one
        self._places: set[StreamSlot] = set()
        self._clients: Counter[str] = Counter()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._places)

    @contextmanager
    def place(
        self, client: str, on_drain: Callable[[], object], *, most: int, most_of_client: int
    ) -> Iterator[StreamSlot]:
        """Hold a place for one stream; `client` "" is nobody in particular. 0 `most_of_client`: no limit."""
        if self._draining:
            raise Unavailable("the server is stopping", reason="draining", retry_after=RETRY_S)
        if len(self._places) >= most:
            raise QueueFull(f"{most} streams are open, which is the most", retry_after=RETRY_S)
        if client and most_of_client and self._clients[client] >= most_of_client:
            raise ClientLimit(f"{client} has {most_of_client} streams open, which is the most", retry_after=RETRY_S)
        place = StreamSlot(self, client, on_drain, None if self.budget is None else self.budget.open())
        self._places.add(place)
        self._clients[client] += 1
        self._empty.clear()
        try:
            yield place
        finally:
            self.held -= place.held
            self.owed -= place.owed
            if place._holding is not None:
                place._holding.release()
            self._places.discard(place)
            self._clients -= Counter({client: 1})
            if not self._places:
                self._empty.set()

    def drain(self) -> None:
        """Refuse new streams; each open one answers what it has taken, says goodbye and ends."""
        self._draining = True
        for place in list(self._places):
            place.on_drain()

    async def ended(self) -> None:
        """Wait until the last stream has ended."""
        await self._empty.wait()
