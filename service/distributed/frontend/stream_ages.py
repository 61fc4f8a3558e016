"""Counts the claimed items of the work streams and finds the oldest item's time: for the gauges."""

from __future__ import annotations

from collections.abc import Sequence

from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.keys import GROUP

#: Streams looked at in one script, some two microseconds of Redis' thread each.
AT_ONCE = 250


async def ages(client: AsyncRedis, streams: Sequence[bytes], now: int) -> tuple[int, int]:
    """Count the claimed items of `streams`, and find when the oldest came (milliseconds; `now` if there is none)."""
    claims, oldest = 0, now
    for start in range(0, len(streams), AT_ONCE):
        names = [stream.decode() for stream in streams[start : start + AT_ONCE]]
        claimed, time = await scripts.call(client, scripts.AGES.bind(*names, group=GROUP))
        claims += claimed
        oldest = min(oldest, time or now)
    return claims, oldest
