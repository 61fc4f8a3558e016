"""Finds items whose workers fell silent or gave them up, and takes one over.

A lease lasts as long as its holder's setting says, which may differ from this worker's while a fleet is updated.
Knows nothing of how items are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import redis

from service.distributed.broker import announcement, scripts
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.clock import now_ms
from service.distributed.broker.keys import GROUP
from service.distributed.worker.claims import HANDED_BACK_MS, Claims
from service.distributed.worker.items import LeasedItem, read_item
from service.distributed.worker.leases import Lease
from service.settings import Settings

#: Streams that are asked for lapsed leases in one round trip.
AT_ONCE = 100
#: Lapsed items of one stream that are looked at with those of others.
EACH = 8


@dataclass(frozen=True, slots=True)
class _Claimed:
    stream: str
    entry: str
    deliveries: int
    worker: str
    idle_ms: int

    @property
    def was_handed_back(self) -> bool:
        # Half: a server's clock that is set back takes from what an item was idle.
        return self.idle_ms >= HANDED_BACK_MS // 2


class LapsedItems:
    """The items of one queue that this worker may take over from others."""

    def __init__(self, settings: Settings, client: AsyncRedis, claims: Claims) -> None:
        self._settings, self._client, self._claims = settings, client, claims
        self._keys = claims.keys

    async def take(
        self, exclude: Iterable[Lease], skip: Callable[[LeasedItem], bool] = lambda item: False
    ) -> LeasedItem | None:
        """Take over one item whose worker fell silent; items delivered too often are buried on the way.

        Leave those in `exclude` and those that `skip` names as they are.
        """
        mine, leases = set(exclude), dict[str, int]()
        streams = sorted(stream.decode() for stream in await self._client.smembers(self._keys.buckets))
        for start in range(0, len(streams), AT_ONCE):
            group = streams[start : start + AT_ONCE]
            bound = scripts.LAPSED.bind(*group, group=GROUP, lease_ms=self._settings.lease_ms, most_items=EACH)
            rows = list(_read(await scripts.call(self._client, bound)))
            for row in rows:
                if (item := await self._taken(row, mine, leases, skip)) is not None:
                    return item
            for stream in {row.stream for row in rows}:
                last = [row.entry for row in rows if row.stream == stream][EACH - 1 :]
                if last and (item := await self._after(stream, last[0], mine, leases, skip)) is not None:
                    return item
        return None

    async def _after(
        self, stream: str, last: str, mine: set[Lease], leases: dict[str, int], skip: Callable[[LeasedItem], bool]
    ) -> LeasedItem | None:
        """Take over one lapsed item of a stream behind `last`."""
        while rows := await self._silent(stream, f"({last}"):
            for row in rows:
                last = row.entry
                if (item := await self._taken(row, mine, leases, skip)) is not None:
                    return item
        return None

    async def _silent(self, stream: str, after: str) -> list[_Claimed]:
        lease_ms = self._settings.lease_ms
        try:
            rows = await self._client.xpending_range(stream, GROUP, after, "+", EACH, idle=lease_ms)
        except redis.ResponseError:
            return []  # the stream went with its last item
        fields = ("message_id", "times_delivered", "consumer", "time_since_delivered")
        return list(_read([stream.encode(), *(row[name] for name in fields)] for row in rows))

    async def _taken(
        self, row: _Claimed, mine: set[Lease], leases: dict[str, int], skip: Callable[[LeasedItem], bool]
    ) -> LeasedItem | None:
        if (row.stream, row.entry) in mine:
            return None  # still running here: Redis was away for longer than a lease
        if not row.was_handed_back and row.idle_ms < await self._lease_ms(row.worker, leases):
            return None
        return await self._take_over(row, skip)

    async def _lease_ms(self, worker: str, leases: dict[str, int]) -> int:
        """Return for how long the leases of another worker last; this worker's own time where it does not say."""
        if worker not in leases:
            data = await self._client.get(self._keys.info(worker))
            leases[worker] = (data and announcement.read_lease(data)) or self._settings.lease_ms
        return leases[worker]

    async def _take_over(self, row: _Claimed, skip: Callable[[LeasedItem], bool]) -> LeasedItem | None:
        stream, entry, deliveries = row.stream, row.entry, row.deliveries
        rows = await self._client.xrange(stream, entry, entry)
        if not rows:
            await self._client.xack(stream, GROUP, entry)
            return None
        now = await now_ms(self._client, self._keys)
        item = read_item(stream, entry, [x for pair in rows[0][1].items() for x in pair], now, deliveries + 1)
        if item is None or skip(item):
            return None
        if deliveries >= self._settings.max_deliveries:
            reason = f"given up: {deliveries} runs ended with the worker's death or an internal error"
            await self._claims.bury(item, reason)
            return None
        item = replace(item, was_handed_back=row.was_handed_back)
        return item if await self._claims.take_idle(item) else None


def _read(rows: Iterable[list[Any]]) -> Iterator[_Claimed]:
    for stream, entry, deliveries, worker, idle_ms in rows:
        yield _Claimed(stream.decode(), entry.decode(), deliveries, worker.decode(errors="replace"), idle_ms)
