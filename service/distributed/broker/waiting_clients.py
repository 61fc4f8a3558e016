"""Clients of a Cluster and of Sentinels whose callers wait for a free connection.

redis-py has such a pool for one server only. Its others refuse whoever finds all connections in use, with the error of
a server that is away.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool


class WaitingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool of connections to the primary that Sentinels name; who finds all in use waits for one."""


class WaitingCluster(RedisCluster):
    """A client of a Cluster with at most `max_connections` commands under way; further ones wait for a place.

    All keys of a queue are in one slot, so as many connections are enough for the node that has it.
    """

    def __init__(self, max_connections: int, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._places = asyncio.Semaphore(max_connections)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command as redis-py's own client does, once there is a place for it."""
        async with self._places:
            return await super().execute_command(*args, **options)
