"""The simulated Redis server: executes what reaches it, lets blocking reads wait, restarts, fails over, jumps in time.

Knows no network: `links` bring it exchanges and take its replies.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.service.redis_model.engine import CommandEngine
from simulator.service.redis_model.store import RedisRefusal
from simulator.service.virtual_loop import VirtualLoop

#: The server's wall clock at the loop's time 0, milliseconds: any time at which nothing is zero by chance.
EPOCH_MS = 1_700_000_000_000
Words = Sequence[Any]


@dataclass(eq=False, slots=True)
class Exchange:
    """Commands on their way to the server, and the replies back. `on_end` gets the replies, or an error."""

    commands: Sequence[Words]
    is_atomic: bool
    on_end: Callable[[list[Any] | Exception], None]
    send_back: Callable[[Exchange, list[Any]], None]  #: of the link that brings it
    has_arrived: bool = False
    is_closed: bool = False  #: its connection is: no reply will be read


@dataclass(eq=False, slots=True)
class _BlockedRead:
    look: Callable[[], Any]  #: what it is answered with now, None where it waits on
    keys: list[bytes]
    seconds: float
    timer: Any = None


class SimulatedServer:
    """One Redis server, or a primary and the replica that takes over. Its callbacks belong to no process."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.context = contextvars.Context()
        self.offset_ms = 0  #: how far its wall clock is from the truth
        self.engine = CommandEngine(self.now_ms)
        self.is_up, self.is_hung = True, False
        self._held: list[Exchange] = []
        self._blocked: dict[Exchange, _BlockedRead] = {}
        self.commands = 0  #: executed, those of scripts not counted
        self.trace: Callable[[Words, Any, str], None] | None = None  #: is told of each command and its answer
        self.recording: list[tuple[Words, Any]] | None = None  #: commands with their answers, if it is a list

    def now_ms(self) -> int:
        """Return its wall clock in milliseconds."""
        return int(self._loop.now * 1000) + EPOCH_MS + self.offset_ms

    def receive(self, exchange: Exchange, count: int | None = None) -> None:
        """Execute an exchange, or its first `count` commands where its connection broke in between."""
        if self.is_hung:
            self._held.append(exchange)
            return
        exchange.has_arrived = True
        commands = exchange.commands
        if (read := self._blocking_read(commands[0])) is not None:
            self._read_or_block(exchange, read)
            return
        replies = [self._execute(words) for words in (commands if count is None else commands[:count])]
        exchange.send_back(exchange, replies)
        self._wake_blocked()

    def hang(self) -> None:
        """Answer nothing, and keep all connections, as SIGSTOP does."""
        self.is_hung = True

    def go_on(self) -> None:
        """Answer what came meanwhile."""
        self.is_hung = False
        held, self._held = self._held, []
        for exchange in held:
            self.receive(exchange)

    def stop(self) -> None:
        """Go away: what is kept stays on its disk; scripts and blocked reads are forgotten."""
        self.is_up = self.is_hung = False
        self._held.clear()
        for read in self._blocked.values():
            read.timer.cancel()
        self._blocked.clear()
        self.engine.scripts.forget()

    def start(self, state: dict[str, Any] | None = None) -> None:
        """Come back with what was kept, or with `state`, of a replica that had not heard all."""
        if state is not None:
            self.engine.store.restore(state)
        self.is_up = True

    def leave(self, exchange: Exchange) -> None:
        """Forget the blocked read of a connection that was closed."""
        if (read := self._blocked.pop(exchange, None)) is not None:
            read.timer.cancel()

    def _execute(self, words: Words) -> Any:
        try:
            answer = self.engine.execute(words)
        except RedisRefusal as refusal:
            answer = refusal
        self._note(words, answer, "->")
        return answer

    # --- blocking reads -------------------------------------------------------------------------------------------

    def _blocking_read(self, words: Words) -> _BlockedRead | None:
        """Return the read that a command is, if it waits for something to read."""
        name = words[0]
        if name == "BLPOP":
            keys = [_key(word) for word in words[1:-1]]
            return _BlockedRead(
                lambda: next(filter(None, map(self.engine.blocking_pop, keys)), None), keys, float(words[-1])
            )
        if name == "XREAD" and (position := _position(words[:5], "BLOCK")) is not None:
            plain = [*words[:position], *words[position + 2 :]]
            streams = plain[(_position(plain, "STREAMS") or 0) + 1 :]
            keys = [_key(word) for word in streams[: len(streams) // 2]]
            return _BlockedRead(lambda: self.engine.execute(plain), keys, int(words[position + 1]) / 1000)
        return None

    def _read_or_block(self, exchange: Exchange, read: _BlockedRead) -> None:
        answer = read.look()
        if answer is not None:
            self._tell(exchange, answer)
            return
        read.timer = self._loop.call_bare(read.seconds, None, self._end_block, exchange)
        self._blocked[exchange] = read

    def _end_block(self, exchange: Exchange) -> None:
        if self._blocked.pop(exchange, None) is not None:
            self._tell(exchange, None)

    def _wake_blocked(self) -> None:
        news = self.engine.news
        if not news:
            return
        self.engine.news = set()
        for exchange, read in list(self._blocked.items()):
            if news.isdisjoint(read.keys):
                continue
            answer = read.look()
            if answer is not None:
                self.leave(exchange)
                self._tell(exchange, answer)

    def _tell(self, exchange: Exchange, answer: Any) -> None:
        """Answer a blocking read, and execute what was sent behind it on its connection."""
        self._note(exchange.commands[0], answer, "=>")
        exchange.send_back(exchange, [answer, *(self._execute(words) for words in exchange.commands[1:])])

    def _note(self, words: Words, answer: Any, arrow: str) -> None:
        self.commands += 1
        if self.recording is not None:
            self.recording.append((words, answer))
        if self.trace is not None:
            self.trace(words, answer, arrow)


def _key(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word


def _position(words: Words, option: str) -> int | None:
    return next((i for i, word in enumerate(words) if word in (option, option.encode())), None)
