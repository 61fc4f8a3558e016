"""Claimed items and the oldest one are read the less often the more streams there are."""

from __future__ import annotations

from service.core.types import Priority
from service.distributed.broker.client import connect
from service.distributed.broker.keys import GROUP, Keys
from service.distributed.frontend.stream_ages import REST_MS, StreamAges
from service.settings import Settings
from tests.unit.distributed.servers import running

COUNT = 300
KEYS = Keys("ages")


async def test_many_streams_are_read_again_after_a_rest_and_few_at_once() -> None:
    with running() as server:
        client, ages = connect(Settings(redis_url=server.url)), StreamAges()
        streams = [KEYS.stream(Priority.LIVE, f"{number}x8").encode() for number in range(COUNT)]
        for number, stream in enumerate(streams):
            await client.xadd(stream, {"j": "x"}, id=f"{5000 + number}-1")
            await client.xgroup_create(stream, GROUP, id="0")
        await ages.read(client, KEYS, streams, 10_000)
        assert (ages.claims, ages.oldest_ms) == (0, {Priority.LIVE: 5000})
        for stream in streams:
            await client.xreadgroup(GROUP, "w", {stream: ">"})
        rest_ms = REST_MS * COUNT
        claims = []
        for now in (10_000, 10_000 + rest_ms - 1, 10_000 + rest_ms):
            await ages.read(client, KEYS, streams, now)
            claims.append(ages.claims)
        assert claims == [0, 0, COUNT]
        now = 10_000 + rest_ms
        await ages.read(client, KEYS, streams[7:9], now + 2 * REST_MS)  # few: at once, as soon as the others are gone
        assert (ages.claims, ages.oldest_ms) == (2, {Priority.LIVE: 5007})
        await ages.read(client, KEYS, [], now)
        assert (ages.claims, ages.oldest_ms) == (0, {})
        await ages.read(client, KEYS, streams, now - 3_600_000)  # a clock that was put back by an hour
        assert ages.claims == COUNT
        await client.aclose()


async def test_calls_and_background_work_are_told_apart_however_many_streams_there_are() -> None:
    with running() as server:
        client, ages = connect(Settings(redis_url=server.url)), StreamAges()
        streams = []
        for number in range(COUNT):
            for priority, time_ms in ((Priority.LIVE, 7000), (Priority.BACKGROUND, 3000)):
                stream = KEYS.stream(priority, f"{number}x8", number % 32)
                await client.xadd(stream, {"j": "x"}, id=f"{time_ms + number}-1")
                streams.append(stream.encode())
        of_another_release = b"{ages}:s:later:8x8"
        await client.xadd(of_another_release, {"j": "x"}, id="2000-1")
        await ages.read(client, KEYS, [*streams, of_another_release], 10_000)
        assert ages.oldest_ms == {Priority.LIVE: 7000, Priority.BACKGROUND: 2000}
        await client.aclose()
