"""The network between one simulated process and the server: delays, cuts, resets, and the death of either end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import redis

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
        self._held: list[Callable[[], None]] = []
        if process is not None:
            process.on_death[self] = self._die

    @property
    def is_dead(self) -> bool:
        """Tell whether its process was killed."""
        return self._process is not None and self._process.is_dead

    def send(
        self, commands: Sequence[Words], is_atomic: bool, on_end: Callable[[list[Any] | Exception], None]
    ) -> Exchange:
        """Begin an exchange; `on_end` is called with its replies, or the error, in the process, unless it is closed."""
        exchange = Exchange(commands, is_atomic, on_end)
        exchange.reply = lambda replies: self._back(exchange, replies)
        self._open[exchange] = None
        self._later(lambda: self._arrive(exchange), self._server.context)
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Close the connection of an exchange that nobody waits for any more. What was sent may arrive all the same."""
        if self._open.pop(exchange, 0) is None:
            exchange.is_closed = True
            self._later(lambda: self._server.leave(exchange), self._server.context)

    def cut(self) -> None:
        """Let nothing pass, until `heal`."""
        self.is_cut = True

    def heal(self) -> None:
        """Let pass what was held back and what comes."""
        self.is_cut = False
        held, self._held = self._held, []
        for action in held:
            action()

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
                self._later(lambda: self._fail(exchange), self._context)
            return
        self._server.receive(exchange)

    def _back(self, exchange: Exchange, replies: list[Any]) -> None:
        self._later(lambda: self._deliver(exchange, replies), self._context)

    def _deliver(self, exchange: Exchange, replies: list[Any]) -> None:
        if self._open.pop(exchange, 0) is None:
            exchange.on_end(replies)

    def _fail(self, exchange: Exchange) -> None:
        self._loop.call_soon(exchange.on_end, redis.ConnectionError("connection lost"), context=self._context)

    @property
    def _context(self) -> Any:
        return self._server.context if self._process is None else self._process.context

    def _later(self, action: Callable[[], None], context: Any) -> None:
        if self.is_cut:
            self._held.append(lambda: self._later(action, context))
            return
        self._loop.call_later(self._rng.uniform(*self.delay_s), self._pass, action, context, context=context)

    def _pass(self, action: Callable[[], None], context: Any) -> None:
        if self.is_cut:  # it was on its way then
            self._held.append(lambda: self._later(action, context))
        elif not self.is_dead:
            action()

    def _die(self) -> None:
        for exchange in list(self._open):
            del self._open[exchange]
            exchange.is_closed = True
            self._server.leave(exchange)
            self._fail(exchange)
