"""Reads the queue's clock, which all deadlines in Redis are on: that of the server that holds it, as scripts see it.

TIME goes to any node of a Cluster; its clock may differ from the one by which scripts drop and order.
"""

from __future__ import annotations

from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis, SyncRedis
from service.distributed.broker.keys import Keys


async def now_ms(client: AsyncRedis, keys: Keys) -> int:
    """Return the queue's time, milliseconds."""
    return int(await scripts.call(client, scripts.CLOCK.bind(load=keys.load)))


def now_ms_sync(client: SyncRedis, keys: Keys) -> int:
    """Return the queue's time, milliseconds, from a thread."""
    return int(scripts.call_sync(client, scripts.CLOCK.bind(load=keys.load)))
