"""Bounds what calls have sent of messages that are not whole or not read yet, which grpcio holds and tells nobody of.

A stream waits for its next frame in a read that cannot be given up, and that lets its client send a whole message; so
many streams can fill memory with halves. What has come on their connection is known to the kernel, what was whole is
known here, and the difference is held. Where it is too much the connection that has cost most loses its calls; where it
grows faster than the event loop answers, that connection is cut by a thread. Knows nothing of messages' meaning.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from service.core.errors import QueueFull
from service.rpc.peer_sockets import PeerSockets

log = logging.getLogger("service.rpc")
T = TypeVar("T")

#: Seconds between two looks at all connections, at least and at most. In between, what is left of the bound is taken to
#: be filled at FASTEST bytes a second.
SOONEST_S, LATEST_S = 0.002, 0.1
FASTEST = 2 * 2**30
#: Bytes that a call may send before its message is asked for (HTTP/2's window), held or not.
WINDOW = 65_536
#: Seconds after which a call that was ended may be made again.
RETRY_S = 5.0


class ReceivingSocket(Protocol):
    """A client's connection, as the kernel has it."""

    def received(self) -> int:
        """Return the bytes that have come so far."""
        ...

    def cut(self) -> None:
        """End the connection at once."""
        ...


@dataclass(eq=False)
class Arrival:
    """One call's arriving message of `most` bytes. `mark`: bytes that had come on its connection with its last one."""

    most: int = 0
    mark: int = 0
    error: QueueFull | None = None  #: why it waits in vain
    _waiter: asyncio.Task[object] | None = None

    async def wait(self, event: Callable[[], Awaitable[T]]) -> T:
        """Await what `event` returns. Raises the error of `end`, also if it was called before."""
        self._waiter = asyncio.current_task()
        try:
            if self.error is not None:
                raise self.error
            return await event()
        except asyncio.CancelledError:
            if self.error is None or self._waiter is None:
                raise
            self._waiter.uncancel()
            raise self.error from None
        finally:
            self._waiter = None

    def end(self, error: QueueFull) -> None:
        """Make whoever waits for the message raise `error`. On the event loop."""
        self.error = error
        if self._waiter is not None:
            self._waiter.cancel()


@dataclass(eq=False)
class Connection:
    """One client's connection."""

    socket: ReceivingSocket
    arrivals: set[Arrival] = field(default_factory=set)
    held: int = 0  #: bytes of messages that are not whole, as far as is known: never less than there are
    cost: float = 0.0  #: byte-seconds of them
    is_cut: bool = False
    _seen: int = 0

    def __post_init__(self) -> None:
        # Its first call is seen here after its first bytes have come.
        self._seen = max(0, self.socket.received() - WINDOW)

    def look(self, seconds: float = 0.0) -> None:
        """Learn what has come; `seconds` since the last look that counted time.

        Headers and frames' heads come, too, and are in no message; so `held` is cut down to what can be there at most:
        of each call a message, and no more than has come since its last one was whole.
        """
        total = self.socket.received()
        self.held += total - self._seen
        self._seen = total
        most = 0 if self.is_cut else sum(min(arrival.most, total - arrival.mark) for arrival in self.arrivals)
        self.held = max(0, min(self.held, most))
        self.cost = self.cost + self.held * seconds if self.held > WINDOW * len(self.arrivals) else 0.0

    def whole(self, nbytes: int, arrival: Arrival | None = None) -> None:
        """Let go of a message of `nbytes` that has become whole."""
        self.held -= nbytes
        if arrival is not None:
            arrival.mark = self.socket.received()
        self.look()


class HalfSentMessages:
    """All calls' halves: `limit` bytes of them at most, each of `message_bytes` at most.

    Half a message more may come before connections are cut; what a link carries within a few milliseconds comes on top.
    `socket_of` finds a client's socket.
    """

    def __init__(
        self,
        limit: int,
        message_bytes: int,
        socket_of: Callable[[str], ReceivingSocket | None] | None = None,
    ) -> None:
        self._limit, self._message_bytes = limit, message_bytes
        self._cut_limit = limit + message_bytes // 2
        self.most_unread = max(1, limit // WINDOW)  #: calls whose windows are within the bound
        self._socket_of = PeerSockets().socket_of if socket_of is None else socket_of
        self._connections: dict[str, Connection] = {}
        self._streams = self._unread = 0
        self._look_time = 0.0  #: of the last look
        self._lock = threading.RLock()  #: over the connections and what is known of them
        self._thread: threading.Thread | None = None
        self._is_look_due = False  #: the event loop has been asked to look

    @contextmanager
    def stream(self, peer: str) -> Iterator[Arrival]:
        """Count the stream of a client by the name that grpcio gives it (`ipv4:127.0.0.1:1234`)."""
        self._streams += 1
        try:
            with self._arrival(peer, self._message_bytes) as arrival:
                yield arrival
        finally:
            self._streams -= 1

    @contextmanager
    def unread(self, peer: str) -> Iterator[Arrival]:
        """Count a call that is not read yet, with what it has sent meanwhile."""
        self._unread += 1
        try:
            with self._arrival(peer, WINDOW) as arrival:
                yield arrival
        finally:
            self._unread -= 1

    @contextmanager
    def _arrival(self, peer: str, most: int) -> Iterator[Arrival]:
        connection = self._connections.get(peer)
        if connection is None and (socket := self._socket_of(peer)) is not None:
            connection = Connection(socket)
        if connection is None:  # not TCP, or gone already: nothing is known of it
            yield Arrival()
            return
        arrival = Arrival(most, max(0, connection.socket.received() - WINDOW))
        with self._lock:
            self._connections[peer] = connection
            connection.arrivals.add(arrival)
            self._watch()
        try:
            yield arrival
        finally:
            with self._lock:
                connection.arrivals.discard(arrival)
                if not connection.arrivals:
                    self._connections.pop(peer, None)

    def whole(self, peer: str, nbytes: int, arrival: Arrival | None = None) -> None:
        """Let go of a message that has become whole: of a stream, or of another call on the same connection."""
        if (connection := self._connections.get(peer)) is not None:
            with self._lock:
                connection.whole(nbytes, arrival)

    # --- watching -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look from now on, for as long as there are so many calls that their halves could be too much."""
        if self._thread is None and self._may_exceed():
            loop = asyncio.get_running_loop()
            # owned: ends by itself, once halves cannot be too much; what it cannot do now it does at its next glance
            self._thread = threading.Thread(target=self._guard, args=(loop,), name="half sent", daemon=True)
            self._thread.start()

    def _may_exceed(self) -> bool:
        return self._streams * self._message_bytes + self._unread * WINDOW > self._limit

    def _guard(self, loop: asyncio.AbstractEventLoop) -> None:
        seconds = SOONEST_S
        while True:
            with self._lock:
                if not self._may_exceed() or loop.is_closed():
                    self._thread = None
                    return
            time.sleep(seconds)
            try:
                held_bytes = self.cut_excess(time.monotonic())
                if held_bytes > self._limit and not self._is_look_due:
                    self._is_look_due = True
                    loop.call_soon_threadsafe(self._look_now)
                seconds = min(LATEST_S, max(SOONEST_S, (self._cut_limit - held_bytes) / FASTEST))
            except Exception:
                log.exception("messages that are not whole are not watched for a moment")
                seconds = LATEST_S

    def _look_now(self) -> None:
        self._is_look_due = False
        self.end_excess(time.monotonic())

    def cut_excess(self, now: float) -> int:
        """Cut connections until the rest hold little enough, and return the bytes that they hold. From any thread.

        Not down to the limit: with so much the event loop may do as `end_excess`, which tells clients why. `now` is in
        seconds, on any one clock.
        """
        connections, held_bytes = self._excess(now, self._cut_limit)
        for connection in connections:
            connection.is_cut = True
            connection.socket.cut()
        if connections:
            log.warning("messages that are not whole held far too much; %d connections are cut", len(connections))
        return held_bytes

    def end_excess(self, now: float) -> None:
        """End the calls of connections until the rest hold `limit` bytes at most; `now` as in `cut_excess`."""
        arrivals = [
            arrival
            for connection in self._excess(now, self._limit)[0]
            for arrival in connection.arrivals
            if arrival.error is None
        ]
        if arrivals:
            log.warning("messages that are not whole held too much; %d calls of their senders end", len(arrivals))
        for arrival in arrivals:
            why = f"messages that are not whole hold more than {self._limit} bytes, most of them this connection's"
            arrival.end(QueueFull(why, retry_after=RETRY_S))

    def _excess(self, now: float, limit: int) -> tuple[list[Connection], int]:
        """Look at all connections; return those without which the others hold `limit` bytes at most, and what these do.

        First the one that has held most for longest: whoever just sends a large frame has not held it long.
        """
        with self._lock:
            for connection in self._connections.values():
                connection.look(min(LATEST_S, now - self._look_time))
            connections = sorted(self._connections.values(), key=lambda connection: (connection.cost, connection.held))
            nbytes = sum(connection.held for connection in connections)
            excess: list[Connection] = []
            while nbytes > limit:
                excess.append(connections.pop())
                nbytes -= excess[-1].held
            self._look_time = now
            return excess, nbytes
