"""A redis-py client whose commands go to the server and back by the shortest way.

redis-py opens the connections, with all that belongs to it: addresses, TLS, users, databases, versions of the protocol.
Its pool, its pipelines and its records of each command are left out: beside a server that answers in a tenth of a
millisecond they take longer than the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio

from service.distributed.broker.frame_parser import FrameParser

#: A command and its arguments.
Words = Sequence[Any]


class QuickRedis(redis.asyncio.Redis):
    """A client over at most `connections` of one server; who finds all in use waits, first come, first served.

    `pool` says how they are opened. A connection on which no reply comes for its `socket_timeout` is given up, with
    redis.TimeoutError; so is one whose caller does not wait for all replies. Nothing is sent twice.
    """

    def __init__(self, pool: redis.asyncio.ConnectionPool, connections: int) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._places = asyncio.Semaphore(connections)
        self._idle: list[Any] = []
        self._connections: list[Any] = []

    @property
    def busy(self) -> int:
        """Count the connections that are in use."""
        return len(self._connections) - len(self._idle)

    @property
    def has_sound_connection(self) -> bool:
        """Tell whether commands may be sent on an open connection that nobody uses."""
        return any(connection._parser.is_at_rest for connection in self._idle)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command and return its reply in redis-py's form."""
        (reply,) = await self._exchange([args])
        reply = self._in_form(args[0], reply, options)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def exchange(self, commands: Sequence[Words], *, is_atomic: bool = False) -> list[Any]:
        """Run commands in one round trip and return their replies in redis-py's form, errors among them.

        `is_atomic`: all or none; raises the error for which a transaction was not begun.
        """
        if is_atomic:
            *queued, replies = await self._exchange([("MULTI",), *commands, ("EXEC",)])
            if isinstance(replies, redis.exceptions.ExecAbortError):
                raise next((reply for reply in queued if isinstance(reply, Exception)), replies)
            if isinstance(replies, Exception):
                raise replies
        else:
            replies = await self._exchange(commands)
        return [self._in_form(words[0], reply, {}) for words, reply in zip(commands, replies, strict=True)]

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        connections, self._connections, self._idle = self._connections, [], []
        for connection in connections:
            await connection.disconnect(nowait=True)  # waits for nothing: whoever is in a hurry leaves none open
        await asyncio.sleep(0)  # in which they close
        await super().aclose(close_connection_pool)

    async def _exchange(self, commands: Sequence[Words]) -> list[Any]:
        async with self._places:
            connection = self._idle.pop() if self._idle else self._new_connection()
            try:
                return await self._ask(connection, commands)
            except BaseException as error:
                # Replies may be on their way yet, which are nobody's.
                await connection.disconnect(nowait=True)
                if isinstance(error, TimeoutError):
                    raise redis.TimeoutError("Timeout reading from the server") from None
                if isinstance(error, OSError):
                    raise redis.ConnectionError(f"Connection lost: {error}") from error
                raise
            finally:
                if connection in self._connections:
                    self._idle.append(connection)
                else:  # this client was closed meanwhile, perhaps before the connection was open
                    await connection.disconnect(nowait=True)

    def _new_connection(self) -> Any:
        pool: Any = self.connection_pool  # without annotations
        connection: Any = pool.make_connection()
        self._connections.append(connection)
        return connection

    async def _ask(self, connection: Any, commands: Sequence[Words]) -> list[Any]:
        parser: FrameParser = connection._parser
        if not parser.is_at_rest:
            await connection.disconnect(nowait=True)
            await connection.connect()
        pieces = connection.pack_commands(commands)
        loop, replies = asyncio.get_running_loop(), []
        async with asyncio.timeout(connection.socket_timeout) as limit:
            has_waited = await parser.send(pieces)
            for _ in commands:
                if has_waited and connection.socket_timeout is not None:
                    limit.reschedule(loop.time() + connection.socket_timeout)
                has_waited = parser.must_wait
                replies.append(await parser.read_response())
        return replies

    def _in_form(self, name: Any, reply: Any, options: dict[str, Any]) -> Any:
        if isinstance(reply, Exception):
            return reply
        options.pop("keys", None)  # of the commands whose keys redis-py names for its own cache
        callback = self.response_callbacks.get(name) if isinstance(name, str) else None
        return reply if callback is None else callback(reply, **options)
