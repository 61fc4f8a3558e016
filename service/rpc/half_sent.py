"""Bounds what streams have sent of messages that are not whole yet, which grpcio holds and tells nobody of.

A stream waits for its next frame in a read that cannot be given up, and that lets its client send a whole message; so
many streams can fill memory with halves. What has come on their connection is known to the kernel, what was whole is
known here, and the difference is held. Where it is too much the connection that has cost most loses its streams.
Knows nothing of messages' meaning. Called on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.core.errors import QueueFull
from service.rpc.peer_sockets import PeerSockets, resident_bytes

log = logging.getLogger("service.rpc")

#: Seconds between two glances at the process's memory. What a link carries meanwhile comes on top of the bound.
PERIOD_S = 0.02
#: Seconds between two looks at each connection, at most.
LOOK_S = 1.0
#: Bytes that a stream may send before its message is asked for (HTTP/2's window), held or not.
WINDOW = 65_536
#: Seconds after which a stream that was ended may be opened again.
RETRY_S = 5.0


@dataclass(eq=False)
class Arrival:
    """One stream's arriving message. `mark`: bytes that had come on its connection when its last one was whole."""

    mark: int = 0
    error: QueueFull | None = None  #: why it waits in vain
    _reader: asyncio.Task[object] | None = None  #: waits for the message

    async def read(self, messages: AsyncIterator[bytes]) -> bytes | None:
        """Return the next message, None after the last. Raises the error of `end`, also if it was called before."""
        self._reader = asyncio.current_task()
        try:
            if self.error is not None:
                raise self.error
            return await anext(messages, None)
        except asyncio.CancelledError:
            if self.error is None or self._reader is None:
                raise
            self._reader.uncancel()
            raise self.error from None
        finally:
            self._reader = None

    def end(self, error: QueueFull) -> None:
        """Make whoever waits for the message raise `error`."""
        self.error = error
        if self._reader is not None:
            self._reader.cancel()


@dataclass(eq=False)
class Connection:
    """One client's connection: `received` tells the bytes that have come on it."""

    received: Callable[[], int]
    message_bytes: int
    arrivals: set[Arrival] = field(default_factory=set)
    held: int = 0  #: bytes of messages that are not whole, as far as is known: never less than there are
    cost: float = 0.0  #: byte-seconds of them
    _seen: int = 0

    def __post_init__(self) -> None:
        self._seen = self.received()

    def look(self, seconds: float = 0.0) -> None:
        """Learn what has come; `seconds` since the last look that counted time.

        Headers and frames' heads come, too, and are in no message; so `held` is cut down to what can be there at most:
        of each stream a message, and no more than has come since its last one was whole.
        """
        total = self.received()
        self.held += total - self._seen
        self._seen = total
        most = sum(min(self.message_bytes, total - arrival.mark) for arrival in self.arrivals)
        self.held = max(0, min(self.held, most))
        self.cost = self.cost + self.held * seconds if self.held > WINDOW * len(self.arrivals) else 0.0

    def whole(self, nbytes: int, arrival: Arrival | None = None) -> None:
        """Let go of a message of `nbytes` that has become whole."""
        self.held -= nbytes
        if arrival is not None:
            arrival.mark = self.received()
        self.look()


class HalfSentMessages:
    """All streams' halves: `limit` bytes of them at most, each of `message_bytes` at most.

    `receiver` finds what tells a connection's bytes; `resident` tells the process's own, 0 where nothing does.
    """

    def __init__(
        self,
        limit: int,
        message_bytes: int,
        receiver: Callable[[str], Callable[[], int] | None] | None = None,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._limit, self._message_bytes = limit, message_bytes
        self._receiver = PeerSockets().receiver if receiver is None else receiver
        self._resident = resident
        self._connections: dict[str, Connection] = {}
        self._streams = 0
        self._timer: asyncio.TimerHandle | None = None
        self._look_time = self._held = self._resident_then = 0.0  #: of the last look: when, and what there was

    @contextmanager
    def stream(self, peer: str) -> Iterator[Arrival]:
        """Count the stream of a client by the name that grpcio gives it (`ipv4:127.0.0.1:1234`)."""
        connection = self._connections.get(peer)
        if connection is None:
            receiver = self._receiver(peer)
            if receiver is None:  # not TCP, or gone already: nothing is known of it
                yield Arrival()
                return
            connection = self._connections[peer] = Connection(receiver, self._message_bytes)
        arrival = Arrival(connection.received())
        connection.arrivals.add(arrival)
        self._streams += 1
        self._watch()
        try:
            yield arrival
        finally:
            self._streams -= 1
            connection.arrivals.discard(arrival)
            if not connection.arrivals:
                self._connections.pop(peer, None)

    def whole(self, peer: str, nbytes: int, arrival: Arrival | None = None) -> None:
        """Let go of a message that has become whole: of a stream, or of another call on the same connection."""
        if (connection := self._connections.get(peer)) is not None:
            connection.whole(nbytes, arrival)

    def _watch(self) -> None:
        """Look from now on, for as long as there are so many streams that their halves could be too much."""
        if self._timer is None and self._streams * self._message_bytes > self._limit:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._glance)

    def _glance(self) -> None:
        """Look, unless halves cannot be too much: they are in memory, so they grow no faster than it does."""
        self._timer = None
        self._watch()
        growth = self._resident() - self._resident_then
        now = asyncio.get_running_loop().time()
        if now - self._look_time >= LOOK_S or self._held + growth > self._limit:
            self.end_excess(now)

    def end_excess(self, now: float) -> None:
        """End the streams of connections until the rest hold `limit` bytes at most; `now` in seconds, on any one clock.

        First of the connection that has held most for longest: whoever just sends a large frame has not held it long.
        """
        for connection in self._connections.values():
            connection.look(min(LOOK_S, now - self._look_time))
        connections = sorted(self._connections.values(), key=lambda connection: connection.cost)
        nbytes = sum(connection.held for connection in connections)
        excess: list[Arrival] = []
        while nbytes > self._limit:
            nbytes -= connections[-1].held
            excess += connections.pop().arrivals
        if excess:
            log.warning("messages that are not whole held too much; %d streams of their senders end", len(excess))
        for arrival in excess:
            why = f"messages that are not whole hold more than {self._limit} bytes, most of them this connection's"
            arrival.end(QueueFull(why, retry_after=RETRY_S))
        self._look_time, self._held, self._resident_then = now, nbytes, self._resident()
