"""redis-py's own clients, whose commands go over a simulated link: for coroutines, and for a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio

from service.distributed.broker.client import CONNECTIONS
from simulator.service.link import Link
from simulator.service.redis_model.store import RedisRefusal
from simulator.service.virtual_loop import VirtualLoop
from simulator.service.virtual_threads import Waiter

#: The codes of error replies for which redis-py has types of their own.
TYPES: dict[str, type[redis.RedisError]] = {
    "NOSCRIPT": redis.exceptions.NoScriptError,
    "OOM": redis.exceptions.OutOfMemoryError,
    "LOADING": redis.exceptions.BusyLoadingError,
    "READONLY": redis.exceptions.ReadOnlyError,
}


def _typed(answer: Any) -> Any:
    if isinstance(answer, RedisRefusal):
        code, _, rest = str(answer).partition(" ")
        return TYPES[code](rest) if code in TYPES else redis.ResponseError(str(answer))
    return answer


def _parsed(client: Any, name: Any, answer: Any, options: dict[str, Any]) -> Any:
    answer = _typed(answer)
    if isinstance(answer, Exception):
        return answer
    options.pop("keys", None)
    callback = client.response_callbacks.get(name) if isinstance(name, str) else None
    return answer if callback is None else callback(answer, **options)


class SimulatedClient(redis.asyncio.Redis):
    """The client of `connect`: at most `connections` exchanges at once, others wait."""

    def __init__(self, loop: VirtualLoop, link: Link, connections: int = CONNECTIONS) -> None:
        super().__init__(protocol=2, driver_info=None)  # else it looks its own version up, for a millisecond
        self._loop, self._link = loop, link
        self._places = asyncio.Semaphore(connections)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        (answer,) = await self.exchange([args], is_atomic=False)
        answer = _parsed(self, args[0], answer, options)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Collect commands for one exchange."""
        return _Pipeline(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close: nothing is open between exchanges."""

    async def exchange(self, commands: Sequence[Sequence[Any]], is_atomic: bool) -> list[Any]:
        """Send commands together and return their replies. Raises redis.ConnectionError and redis.TimeoutError."""
        async with self._places:
            if self._link.is_dead:
                raise redis.ConnectionError("the process is dead")
            outcome: asyncio.Future[list[Any]] = self._loop.create_future()

            def settle(replies: list[Any] | Exception) -> None:
                if outcome.done():
                    return
                if isinstance(replies, Exception):
                    outcome.set_exception(replies)
                else:
                    outcome.set_result(replies)

            exchange = self._link.send(commands, is_atomic, settle)
            try:
                return await outcome
            finally:
                self._link.close(exchange)


class _Pipeline:
    def __init__(self, client: SimulatedClient, is_atomic: bool) -> None:
        self._client, self._is_atomic = client, is_atomic
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any) -> None:
        self._commands.append(args)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        if not self._commands:
            return []
        replies = await self._client.exchange(self._commands, self._is_atomic)
        return [
            _parsed(self._client, words[0], reply, {}) for words, reply in zip(self._commands, replies, strict=True)
        ]


class SimulatedSyncClient(redis.Redis):
    """The client of `connect_sync`: for one thread."""

    def __init__(self, loop: VirtualLoop, link: Link) -> None:
        super().__init__(protocol=2, driver_info=None)
        self._loop, self._link = loop, link

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        (answer,) = self.exchange([args])
        answer = _parsed(self, args[0], answer, options)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Collect commands for one exchange."""
        return _SyncPipeline(self)

    def close(self) -> None:
        """Close: nothing is open between exchanges."""

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands together and return their replies. Raises redis.ConnectionError and redis.TimeoutError."""
        if self._link.is_dead:
            raise redis.ConnectionError("the process is dead")
        outcome: list[list[Any] | Exception] = []
        waiter = Waiter(self._loop)

        def settle(replies: list[Any] | Exception) -> None:
            outcome.append(replies)
            waiter.wake()

        exchange = self._link.send(commands, False, settle)
        waiter.wait(None)
        self._link.close(exchange)
        replies = outcome[0]
        if isinstance(replies, Exception):
            raise replies
        return replies


class _SyncPipeline:
    def __init__(self, client: SimulatedSyncClient) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any) -> None:
        self._commands.append(args)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        replies = self._client.exchange(self._commands)
        return [
            _parsed(self._client, words[0], reply, {}) for words, reply in zip(self._commands, replies, strict=True)
        ]
