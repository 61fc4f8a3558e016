"""Listens, over one blocking connection, for a front end's answered calls and for jobs that moved."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from service.distributed.broker.client import BLOCK_S, AsyncRedis


async def listen(
    client: AsyncRedis,
    reply: str,
    events: str,
    on_answers: Callable[[list[str]], None],
    on_events: Callable[[list[str]], None],
) -> None:
    """Read both streams for ever; raises what FAILED names. Entries that name no job are passed over."""
    newest = await client.xrevrange(events, count=1)
    since = {reply: b"0-0", events: newest[0][0] if newest else b"0-0"}
    while True:
        streams = await client.xread(since, count=500, block=math.ceil(1000 * BLOCK_S))
        for name, entries in streams.items() if isinstance(streams, dict) else streams or ():
            key = name.decode()
            rows = entries[0] if isinstance(streams, dict) else entries
            since[key] = rows[-1][0]
            ids = [fields[b"j"].decode(errors="replace") for _, fields in rows if b"j" in fields]
            if key == reply:
                on_answers(ids)
                await asyncio.sleep(0)  # the answers are asked for first: whoever waits, waits for those
                await client.xdel(reply, *(row for row, _ in rows))
            else:
                on_events(ids)
