"""Hears, over one blocking connection, which of a front end's calls were answered and which jobs moved."""

from __future__ import annotations

import math
from collections.abc import Callable

from service.distributed.broker.client import BLOCK_S, AsyncRedis


async def listen(
    client: AsyncRedis,
    reply: str,
    events: str,
    answered: Callable[[list[str]], None],
    moved: Callable[[list[str]], None],
) -> None:
    """Read both streams for ever; raises what FAILED names. Entries that name no job are passed over."""
    newest = await client.xrevrange(events, count=1)
    since = {reply: b"0-0", events: newest[0][0] if newest else b"0-0"}
    while True:
        heard = await client.xread(since, count=500, block=math.ceil(1000 * BLOCK_S))
        for name, entries in heard.items() if isinstance(heard, dict) else heard or ():
            key = name.decode()
            rows = entries[0] if isinstance(heard, dict) else entries
            since[key] = rows[-1][0]
            ids = [fields[b"j"].decode(errors="replace") for _, fields in rows if b"j" in fields]
            if key == reply:
                answered(ids)
                await client.xdel(reply, *(row for row, _ in rows))
            else:
                moved(ids)
