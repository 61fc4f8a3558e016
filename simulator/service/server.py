"""The simulated Redis server: executes what reaches it, lets blocking reads wait, restarts, fails over, jumps in time.

Knows no network: `links` bring it exchanges and take its replies.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.service.redis_model.engine import CommandEngine
from simulator.service.redis_model.store import RedisRefusal
from simulator.service.virtual_loop import VirtualLoop

#: The server's wall clock at the loop's time 0, milliseconds: any time at which nothing is zero by chance.
EPOCH_MS = 1_700_000_000_000
Words = Sequence[Any]


@dataclass(eq=False)
class Exchange:
    """Commands on their way to the server, and the replies back. `on_end` gets the replies, or an error."""

    commands: Sequence[Words]
    is_atomic: bool
    on_end: Callable[[list[Any] | Exception], None]
    reply: Callable[[list[Any]], None] = lambda replies: None  #: set by the link
    has_arrived: bool = False
    is_closed: bool = False  #: its connection is: no reply will be read


@dataclass(eq=False)
class _BlockedRead:
    exchange: Exchange
    timer: Any = None
    deadline: float = 0.0
    look: Callable[[], Any] = field(default=lambda: None)


class SimulatedServer:
    """One Redis server, or a primary and the replica that takes over. Its callbacks belong to no process."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.context = contextvars.Context()
        self.offset_ms = 0  #: how far its wall clock is from the truth
        self.engine = CommandEngine(self.now_ms)
        self.is_up, self.is_hung = True, False
        self._held: list[Exchange] = []
        self._blocked: dict[_BlockedRead, None] = {}
        self.trace: Callable[[str], None] | None = None
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
        if len(commands) == 1 and (look := self._blocking_look(commands[0])) is not None:
            self._read_or_block(exchange, look, commands[0])
            return
        replies = [self._execute(words) for words in (commands if count is None else commands[:count])]
        exchange.reply(replies)
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
        for read in self._blocked:
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
        for read in [read for read in self._blocked if read.exchange is exchange]:
            read.timer.cancel()
            del self._blocked[read]

    def _execute(self, words: Words) -> Any:
        try:
            answer = self.engine.execute(words)
        except RedisRefusal as refusal:
            answer = refusal
        self._note(words, answer, "->")
        return answer

    # --- blocking reads -------------------------------------------------------------------------------------------

    def _blocking_look(self, words: Words) -> Callable[[], Any] | None:
        name = words[0]
        if name == "BLPOP":
            keys = [key.encode() if isinstance(key, str) else key for key in words[1:-1]]
            return lambda: next(filter(None, map(self.engine.blocking_pop, keys)), None)
        if name == "XREAD" and any(word in (b"BLOCK", "BLOCK") for word in words[:5]):
            position = next(i for i, word in enumerate(words) if word in (b"BLOCK", "BLOCK"))
            plain = [*words[:position], *words[position + 2 :]]
            return lambda: self.engine.execute(plain)
        return None

    def _read_or_block(self, exchange: Exchange, look: Callable[[], Any], words: Words) -> None:
        answer = look()
        if answer is not None:
            self._tell(exchange, words, answer)
            return
        if words[0] == "BLPOP":
            seconds = float(words[-1])
        else:
            position = next(i for i, word in enumerate(words) if word in (b"BLOCK", "BLOCK"))
            seconds = int(words[position + 1]) / 1000
        read = _BlockedRead(exchange, look=look)
        read.timer = self._loop.call_later(seconds, self._end_block, read, context=self.context)
        self._blocked[read] = None

    def _end_block(self, read: _BlockedRead) -> None:
        if read in self._blocked:
            del self._blocked[read]
            self._tell(read.exchange, read.exchange.commands[0], None)

    def _wake_blocked(self) -> None:
        if not self.engine.has_news:
            return
        self.engine.has_news = False
        for read in list(self._blocked):
            answer = read.look()
            if answer is not None:
                read.timer.cancel()
                del self._blocked[read]
                self._tell(read.exchange, read.exchange.commands[0], answer)

    def _tell(self, exchange: Exchange, words: Words, answer: Any) -> None:
        self._note(words, answer, "=>")
        exchange.reply([answer])

    def _note(self, words: Words, answer: Any, arrow: str) -> None:
        if self.recording is not None:
            self.recording.append((words, answer))
        if self.trace is not None:
            self.trace(f"{words!r:.400} {arrow} {answer!r:.200}")
