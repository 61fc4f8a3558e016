"""Connections to Redis: one server, Sentinel or Cluster, for coroutines and for the lease thread.

redis-py retries nothing here: a repeated blocking read can lose what the first one popped, and the loops that use
these clients wait and reconnect themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.backoff
import redis.cluster
import redis.retry
import redis.sentinel

from service.distributed.broker.waiting_clients import WaitingCluster, WaitingSentinelPool
from service.settings import Settings

# redis-py's annotations say Awaitable[X] | X of every command, for both of its worlds; nothing can be checked by them.
AsyncRedis = Any
SyncRedis = Any

#: Seconds that blocking reads wait; below SOCKET_TIMEOUT, or a quiet queue would look like a lost server.
BLOCK_S = 2.0
#: Seconds without an answer after which a connection is given up: half-open ones say nothing at all.
SOCKET_TIMEOUT = 5.0
#: The same for a Sentinel, of which there are others to ask.
SENTINEL_TIMEOUT = 1.0
#: Connections of one process to one server for what may be large; a worker's blocking reads are among them.
CONNECTIONS = 32
#: Those of a front end's pulse, listener and withdrawals, which no upload may hold up.
STEADY_CONNECTIONS = 8
#: What "Redis is away" looks like. A server that is loading, a replica just demoted or a Cluster without its slot are
#: the same to us: wait and try again.
LOST = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,  # no RedisError: none of a Cluster's nodes can be reached
    redis.exceptions.TryAgainError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.sentinel.MasterNotFoundError,
    OSError,
)
#: Whatever a server may answer, full memory or a right taken away too: for loops that must outlive it.
FAILED = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)


#: What a server answers that takes no writes for now, or nothing at all beside somebody's long script (BUSY); in a
#: script's error of Redis 6.2 in the midst of the text.
_NO_WRITES = re.compile(r"\b(NOREPLICAS|MISCONF|READONLY|BUSY) ")


class WritesRefused(redis.exceptions.ReadOnlyError):
    """The server answers, but takes no writes for now: it has too few replicas, cannot save, or became a replica.

    Or our user has lost a right. One of LOST. redis-py has no class for most of these answers, and none for any of them
    within a script of Redis 6.2.
    """


def classify(error: Exception) -> Exception:
    """Return WritesRefused where that is what the server's error says, else the error itself."""
    if isinstance(error, redis.exceptions.NoPermissionError):
        return WritesRefused("the server's ACL does not let us")
    if isinstance(error, redis.ResponseError) and _NO_WRITES.search(str(error)):
        return WritesRefused("the server takes no writes for now")
    return error


def _common() -> dict[str, Any]:
    return {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": 2.0, "health_check_interval": 0}


def connect(settings: Settings, connections: int = CONNECTIONS) -> AsyncRedis:
    """Make a client for coroutines, not yet connected; `aclose` it. Answers are bytes.

    Who finds all `connections` in use waits for one, for as long as its caller lets it: a busy link is no lost one.
    """
    never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
    if settings.redis_cluster:
        # A moved slot is followed by asking again: the Cluster's own retries are kept, they repeat only refused calls.
        options = {"max_connections": connections, **_user(settings), **_common()}
        return WaitingCluster.from_url(settings.redis_url, **options)
    if settings.redis_sentinels:
        asynchronous: Any = redis.asyncio.sentinel
        sentinels = asynchronous.Sentinel(_hosts(settings.redis_sentinels), sentinel_kwargs=_of_sentinels(settings))
        return sentinels.master_for(
            settings.redis_sentinel_service,
            connection_pool_class=WaitingSentinelPool,
            max_connections=connections,
            timeout=None,
            **_common() | _served(settings) | {"retry": never},
        )
    # A burst of calls waits for one of a few connections rather than opening hundreds.
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=connections,
        timeout=None,
        retry=never,
        **_user(settings),
        **_common(),
    )
    return redis.asyncio.Redis.from_pool(pool)


def connect_sync(settings: Settings) -> SyncRedis:
    """Make the same client as `connect`, for a thread."""
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    if settings.redis_cluster:
        return redis.cluster.RedisCluster.from_url(settings.redis_url, **_user(settings), **_common())
    if settings.redis_sentinels:
        synchronous: Any = redis.sentinel
        sentinels = synchronous.Sentinel(_hosts(settings.redis_sentinels), sentinel_kwargs=_of_sentinels(settings))
        return sentinels.master_for(settings.redis_sentinel_service, **_common() | _served(settings) | {"retry": never})
    return redis.Redis.from_url(settings.redis_url, retry=never, **_user(settings), **_common())


async def reconnect(client: AsyncRedis) -> None:
    """Have every connection of `client` made anew before it is used again; what is under way ends as it would.

    A primary that became a replica keeps its connections, and the address may be another server's by now. A Cluster's
    client follows its nodes by itself.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        with contextlib.suppress(*FAILED):
            await pool.update_active_connections_for_reconnect()
            await pool.disconnect(inuse_connections=False)


def reconnect_sync(client: SyncRedis) -> None:
    """Have the connections of a client of `connect_sync` made anew, as `reconnect` does, by the thread that uses it."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        pool.disconnect()


async def close(client: AsyncRedis) -> None:
    """Close a client of `connect`, and its clients of Sentinels: redis-py leaves those connections open."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def hang_up_sync(client: SyncRedis) -> None:
    """Close a client of `connect_sync`, and its clients of Sentinels."""
    client.close()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        sentinel.close()


def _hosts(words: tuple[str, ...]) -> list[tuple[str, int]]:
    pairs = (word.rpartition(":") for word in words)
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def _user(settings: Settings) -> dict[str, Any]:
    """Return the user and password that stand apart from the URL, as redis-py's options."""
    apart = {"username": settings.redis_username, "password": settings.redis_password}
    return {name: value for name, value in apart.items() if value}


def _served(settings: Settings) -> dict[str, Any]:
    """Return the user, password, database and TLS as redis-py's options, without a host: the Sentinels know it."""
    url_options = dict(redis.asyncio.connection.parse_url(settings.redis_url)) | _user(settings)
    options = {k: v for k, v in url_options.items() if k not in ("host", "port", "path", "connection_class")}
    if "SSL" in getattr(url_options.get("connection_class"), "__name__", ""):
        options["ssl"] = True
    return options


def _of_sentinels(settings: Settings) -> dict[str, Any]:
    """Return redis-py's options for connections to the Sentinels: their own user, and the URL's way to speak."""
    apart = {"username": settings.redis_sentinel_username, "password": settings.redis_sentinel_password}
    shared = {k: v for k, v in _served(settings).items() if k == "protocol" or k.startswith("ssl_")}
    tls = {"ssl": True} if settings.redis_sentinel_tls else {}
    user = {name: value for name, value in apart.items() if value}
    return {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT} | shared | tls | user


async def pipeline(client: AsyncRedis, commands: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
    """Run commands in this order, in one round trip (`atomic`: all or none); return their answers, errors among them.

    redis-py lets no script into a Cluster's pipeline, so there they go one after the other. Raises what LOST names.
    """
    answers: list[Any] = []
    if isinstance(client, redis.asyncio.cluster.RedisCluster):
        for command in commands:
            try:
                answers.append(await client.execute_command(*command))
            except redis.ResponseError as error:
                answers.append(error)
    else:
        pipe = client.pipeline(transaction=atomic)
        for command in commands:
            pipe.execute_command(*command)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except redis.ResponseError as error:  # a transaction was not begun
            raise await refused(client, error) from error
    for answer in answers:
        # A right that we lack, such as CONFIG's, is the caller's to judge.
        if not isinstance(answer, Exception) or isinstance(answer, redis.exceptions.NoPermissionError):
            continue
        if isinstance(failure := await refused(client, answer), LOST):
            raise failure
    return answers


async def refused(client: AsyncRedis, error: Exception) -> Exception:
    """Classify a server's error; where it is of one that takes no writes, `client` connects anew from here on."""
    failure = classify(error)
    if isinstance(failure, redis.exceptions.ReadOnlyError):
        await reconnect(client)
    return failure


def backoff(rng: random.Random, longest: float = 5.0) -> Iterator[float]:
    """Yield seconds before each new try: growing, and spread, so that a fleet does not come back at one instant."""
    wait = 0.05
    while True:
        yield wait * (0.5 + rng.random())
        wait = min(longest, wait * 2)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended. Once is not enough: redis-py 8.1 can lose one while it connects."""
    open_tasks = {task for task in tasks if not task.done()}
    while open_tasks:
        for task in open_tasks:
            task.cancel()
        _, open_tasks = await asyncio.wait(open_tasks, timeout=0.1)
