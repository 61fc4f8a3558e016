"""The network between one simulated process and the server: delays, cuts, resets, and the death of either end."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis

from service.distributed.broker.client import SOCKET_TIMEOUT
from simulator.service.server import Exchange, SimulatedServer, Words
from simulator.service.virtual_loop import SimulatedProcess, VirtualLoop

#: Seconds one way, at least and at most, where nothing is wrong.
QUICK_S = (0.0001, 0.0008)


class Link:
    """All connections of one process. `process` None: of somebody outside, whom no fault reaches."""

    def __init__(
        self, loop: VirtualLoop, server: SimulatedServer, rng: random.Random, process: SimulatedProcess | None = None
    ) -> None:
        self._loop, self._server, self._rng, self._process = loop, server, rng, process
        self.delay_s = QUICK_S
        self.is_cut = False  #: nothing passes, and nothing says so
        self._open: dict[Exchange, None] = {}
        self._unanswered: deque[tuple[float, Exchange]] = deque()  #: what times out first is first
        self._held: list[tuple[Callable[..., None], tuple[Any, ...], SimulatedProcess | None]] = []
        if process is not None:
            process.on_death[self] = self._die

    @property
    def is_dead(self) -> bool:
        """Tell whether its process was killed."""
        return self._process is not None and self._process.is_dead

    def send(
        self, commands: Sequence[Words], is_atomic: bool, on_end: Callable[[list[Any] | Exception], None]
    ) -> Exchange:
        """Begin an exchange; `on_end` is called with its replies or the error, while the process runs, until `close`.

        What is not answered in SOCKET_TIMEOUT seconds ends with redis.TimeoutError.
        """
        exchange = Exchange(commands, is_atomic, on_end, self._back)
        self._open[exchange] = None
        if not self._unanswered:
            self._loop.call_bare(SOCKET_TIMEOUT, self._process, self._time_out)
        self._unanswered.append((self._loop.now + SOCKET_TIMEOUT, exchange))
        self._later(None, self._arrive, exchange)
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Close the connection of an exchange that nobody waits for any more. What was sent may arrive all the same."""
        if self._open.pop(exchange, 0) is None:
            exchange.is_closed = True
            self._later(None, self._server.leave, exchange)

    def cut(self) -> None:
        """Let nothing pass, until `heal`."""
        self.is_cut = True

    def heal(self) -> None:
        """Let pass what was held back and what comes."""
        self.is_cut = False
        held, self._held = self._held, []
        for action, arguments, process in held:
            self._later(process, action, *arguments)

    def reset(self) -> None:
        """Break all connections: what is on its way is lost, a part of it perhaps not."""
        for exchange in list(self._open):
            del self._open[exchange]
            exchange.is_closed = True
            self._server.leave(exchange)
            if not exchange.has_arrived and self._server.is_up and not self._server.is_hung:
                # The bytes that came before the break count: all of a transaction or nothing, else any beginning.
                count = self._rng.randint(0, len(exchange.commands))
                if not exchange.is_atomic or count == len(exchange.commands):
                    self._server.receive(exchange, count)
                exchange.has_arrived = True
            self._fail(exchange)

    def _arrive(self, exchange: Exchange) -> None:
        if exchange.has_arrived:
            return
        if not self._server.is_up:
            if self._open.pop(exchange, 0) is None:
                exchange.is_closed = True
                self._later(self._process, self._fail, exchange)
            return
        self._server.receive(exchange)

    def _back(self, exchange: Exchange, replies: list[Any]) -> None:
        self._later(self._process, self._deliver, exchange, replies)

    def _deliver(self, exchange: Exchange, replies: list[Any]) -> None:
        if self._open.pop(exchange, 0) is None:
            exchange.on_end(replies)

    def _fail(self, exchange: Exchange) -> None:
        self._loop.call_bare(0.0, self._process, exchange.on_end, redis.ConnectionError("connection lost"))

    def _time_out(self) -> None:
        # One timer for all of a link: hardly ever is one of them needed.
        unanswered, now = self._unanswered, self._loop.now
        while unanswered and (unanswered[0][0] <= now or unanswered[0][1] not in self._open):
            _, exchange = unanswered.popleft()
            if exchange in self._open:
                exchange.on_end(redis.TimeoutError("no answer in time"))
        if unanswered:
            self._loop.call_bare(unanswered[0][0] - now, self._process, self._time_out)

    def _later(self, process: SimulatedProcess | None, action: Callable[..., None], *arguments: Any) -> None:
        if self.is_cut:
            self._held.append((action, arguments, process))
            return
        low, high = self.delay_s
        delay = low + (high - low) * self._rng.random()
        self._loop.call_bare(delay, process, self._pass, process, action, arguments)

    def _pass(self, process: SimulatedProcess | None, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.is_cut:  # it was on its way then
            self._held.append((action, arguments, process))
        elif not self.is_dead:
            action(*arguments)

    def _die(self) -> None:
        for exchange in list(self._open):
            del self._open[exchange]
            exchange.is_closed = True
            self._server.leave(exchange)
            self._fail(exchange)
