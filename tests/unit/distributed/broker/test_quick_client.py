"""Commands over the client that `connect` makes, against redis-py's own, on real servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
import uvloop

from service.distributed.broker import client as broker_client
from service.distributed.broker.client import connect, pipeline
from service.distributed.broker.quick_client import QuickRedis
from service.settings import Settings
from tests.unit.distributed.conftest import until
from tests.unit.distributed.frontend.test_link import Link
from tests.unit.distributed.servers import Server, binaries, running

FRAME = random.Random(0).randbytes(344_064)
COMMANDS: list[tuple[Any, ...]] = [
    ("SET", "a", FRAME, "PX", 60_000),
    ("GET", "a"),
    ("GET", "none"),
    ("HSET", "h", "f", FRAME),
    ("HGETALL", "h"),
    ("HMGET", "h", "f", "g"),
    ("HSET", "a", "f", "1"),
    ("SADD", "s", "x"),
    ("SMEMBERS", "s"),
    ("ZADD", "z", 1.5, "m"),
    ("ZRANGE", "z", 0, -1),
    ("ZSCORE", "z", "m"),
    ("PEXPIRE", "z", 1000),
    ("XADD", "x", "1-1", "j", "1"),
    ("XREAD", "STREAMS", "x", "0"),
    ("EVALSHA", "0" * 40, 0),
    ("EVAL", "return {1, false, {'a', redis.call('GET', 'none')}}", 0),
    ("CONFIG GET", "maxmemory"),
    ("nonsense",),
]


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server_of_its_own() -> Iterator[Server]:
    with running() as server:
        yield server


@asynccontextmanager
async def client_of(url: str, connections: int = 32) -> AsyncIterator[Any]:
    client = connect(Settings(engine="redis", redis_url=url), connections)
    try:
        yield client
    finally:
        await client.aclose()


async def outcome(awaitable: Any) -> Any:
    try:
        return await awaitable
    except redis.RedisError as error:
        return type(error), str(error)


async def cut(server: Server, client: Any) -> None:
    """Have the server close all connections, and wait until `client` knows."""
    admin = server.client()
    admin.client_kill_filter(_type="normal", skipme=True)
    admin.close()
    await until(lambda: not client.has_sound_connection)


def in_words(replies: list[Any]) -> list[Any]:
    return [str(type(reply)) if isinstance(reply, Exception) else reply for reply in replies]


async def answers(client: Any) -> list[Any]:
    """Run the commands one by one on an empty server."""
    await client.flushall()
    return [await outcome(client.execute_command(*command)) for command in COMMANDS]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", binaries())
async def test_commands_are_answered_as_by_redis_pys_own_client(name: str, protocol: int) -> None:
    with running(binaries()[name]) as server:
        theirs = redis.asyncio.Redis.from_url(server.url, protocol=protocol)
        async with client_of(f"{server.url}?protocol={protocol}") as ours:
            assert isinstance(ours, QuickRedis)
            assert await answers(ours) == await answers(theirs)
            for is_atomic in (False, True):
                commands = COMMANDS[: -1 if is_atomic else None]  # a transaction with nonsense in it is not begun
                await theirs.flushall()
                pipe = theirs.pipeline(transaction=is_atomic)
                for command in commands:
                    pipe.execute_command(*command)
                expected = in_words(await pipe.execute(raise_on_error=False))
                await theirs.flushall()
                assert in_words(await ours.exchange(commands, is_atomic=is_atomic)) == expected
        await theirs.aclose()


async def test_a_transaction_that_is_not_begun_raises_why(one_server: Server) -> None:
    async with client_of(one_server.url) as client:
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                await client.exchange([("SET", "full", "1"), ("GET", "full")], is_atomic=True)
            assert isinstance((await client.exchange([("SET", "full", "1")]))[0], redis.exceptions.OutOfMemoryError)
        finally:
            await client.config_set("maxmemory", 0)
        assert await client.get("full") is None


async def test_whoever_leaves_takes_no_reply_of_anothers(one_server: Server) -> None:
    async with client_of(one_server.url, connections=3) as client:
        await client.set("frame", FRAME)
        rng = random.Random(3)

        async def ask(number: int) -> None:
            task = asyncio.create_task(client.exchange([("ECHO", number), ("GET", "frame"), ("ECHO", -number)]))
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            if number % 3 == 0:
                task.cancel()
            try:
                replies = await task
            except asyncio.CancelledError:
                return
            assert replies == [b"%d" % number, FRAME, b"%d" % -number]

        for start in range(0, 120, 20):
            await asyncio.gather(*(ask(number) for number in range(start, start + 20)))


async def test_no_more_connections_than_it_may_have_and_who_came_first_is_served_first(one_server: Server) -> None:
    async with client_of(one_server.url, connections=2) as client, client_of(one_server.url) as other:
        blocked = [asyncio.create_task(client.blpop([f"list{k}"], timeout=60)) for k in range(2)]

        async def both_wait() -> bool:
            return int((await other.info("clients"))["blocked_clients"]) == 2

        await until(both_wait)
        order: list[int] = []

        async def ask(number: int) -> None:
            await client.ping()
            order.append(number)

        asked = [asyncio.create_task(ask(number)) for number in range(5)]
        await other.ping()
        assert (order, client.busy) == ([], 2)
        await other.rpush("list0", "x")
        await asyncio.gather(*asked)
        assert order == [0, 1, 2, 3, 4]
        await other.rpush("list1", "x")
        assert [await task for task in blocked] == [(b"list0", b"x"), (b"list1", b"x")]
        ours = {row["id"] for row in await other.client_list()}
        assert len(ours) == 3  # two, and the other client's


async def test_a_server_that_is_silent_costs_the_connection_and_no_more(
    one_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT", 0.1)
    async with client_of(one_server.url) as client:
        await client.set("a", "1")
        with pytest.raises(redis.TimeoutError):
            await client.blpop(["nothing"], timeout=60)
        assert await client.get("a") == b"1"


async def test_a_restarted_server_is_found_again(server_of_its_own: Server) -> None:
    async with client_of(server_of_its_own.url) as client:
        waiting = asyncio.create_task(client.blpop(["nothing"], timeout=60))
        await until(lambda: client.busy == 1)
        await client.set("a", "1")
        server_of_its_own.kill()
        with pytest.raises(redis.ConnectionError):
            await waiting
        with pytest.raises(redis.ConnectionError):
            await client.get("a")
        server_of_its_own.start()
        assert await client.get("a") is None


async def test_a_connection_that_the_server_cut_is_replaced_before_it_is_used(one_server: Server) -> None:
    async with client_of(one_server.url) as client:
        for _ in range(3):
            await client.ping()
            await cut(one_server, client)
        assert await client.ping()


async def test_a_server_that_takes_no_more_clients_says_so(server_of_its_own: Server) -> None:
    async with client_of(server_of_its_own.url) as first, client_of(server_of_its_own.url) as second:
        await first.config_set("maxclients", 1)
        with pytest.raises(redis.ConnectionError):
            await second.ping()
        await first.config_set("maxclients", 100)
        assert await second.ping()


async def test_frames_go_up_a_narrow_link_as_long_as_something_comes_through(
    one_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.7 MB over 2 MB/s takes 0.35 s: within what a connection may be silent, not within a reply's usual time."""
    monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT", 20.0)
    async with Link(one_server, 2e6).open() as link, client_of(link.url) as client:
        commands = [("HSET", "p", "0", FRAME), ("PEXPIRE", "p", 60_000), ("HSET", "p", "1", FRAME)]
        assert await pipeline(client, commands, atomic=True) == [1, True, 1]
        assert await client.hmget("p", "0", "1") == [FRAME, FRAME]


async def test_a_client_that_is_closed_while_it_connects_leaves_no_connection_open(one_server: Server) -> None:
    """Whoever leaves is in a hurry: its close is cut short, too."""
    async with client_of(one_server.url) as other:
        for turns in range(12):
            client = connect(Settings(engine="redis", redis_url=one_server.url))
            asked = [asyncio.create_task(client.ping()) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            closing = asyncio.create_task(client.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.gather(closing, *asked, return_exceptions=True)
        await until(lambda: only_one(other))


async def only_one(client: Any) -> bool:
    return len(await client.client_list()) == 1


async def test_a_closed_client_holds_no_connection(one_server: Server) -> None:
    async with client_of(one_server.url) as other:
        async with client_of(one_server.url) as client:
            waiting = asyncio.create_task(client.blpop(["nothing"], timeout=60))
            await asyncio.gather(*(client.ping() for _ in range(5)))
            await until(lambda: client.busy == 1)
        with pytest.raises(redis.ConnectionError):
            await waiting

        await until(lambda: only_one(other))


def test_frames_go_and_come_on_the_loop_that_the_service_runs_on(one_server: Server) -> None:
    """The other tests are on asyncio's own; uvloop's transports are not asyncio's."""

    async def there_and_back() -> None:
        async with Link(one_server, 200e6).open() as link:
            for url in (one_server.url, link.url):
                async with client_of(url, connections=2) as client:
                    commands = [("HSET", "p", "0", FRAME), ("HSET", "p", "1", FRAME), ("HMGET", "p", "0", "1")]
                    left = asyncio.create_task(client.exchange(commands))
                    await asyncio.sleep(0)
                    left.cancel()
                    for _ in range(3):
                        *_, frames = await client.exchange(commands, is_atomic=True)
                        assert frames == [FRAME, FRAME]
                    await cut(one_server, client)
                    assert await client.hmget("p", "0", "1") == [FRAME, FRAME]

    uvloop.run(there_and_back())
