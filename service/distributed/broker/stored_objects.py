"""What jobs and clips keep in a store elsewhere, by their ids: noted in Redis first, so that nothing stays for ever.

Knows nothing of what is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.distributed.broker.blob_store import BlobStore
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.clock import now_ms
from service.distributed.broker.keys import Keys

#: Milliseconds after which what belongs to no record is taken for left over: an upload takes less.
LEFT_OVER_MS = 3_600_000
#: Owners whose records are looked for in one round trip.
AT_ONCE = 1000


class StoredObjects:
    """The objects `<owner>/<name>` of one queue; `clip_objects` in Redis names the owners that have any.

    Verbs raise StoreUnavailable where the store fails, and what redis-py raises.
    """

    def __init__(self, blobs: BlobStore, client: AsyncRedis, keys: Keys) -> None:
        self.blobs, self._client, self._keys = blobs, client, keys

    async def note(self, owner: str) -> None:
        """Note that a job or clip is about to have objects, whether or not it is accepted then."""
        await self._client.zadd(self._keys.clip_objects, {owner: await now_ms(self._client, self._keys)})

    async def has_any(self, owner: str) -> bool:
        """Tell whether a job or clip was noted."""
        return await self._client.zscore(self._keys.clip_objects, owner) is not None

    async def remove(self, owner: str, prefix: str = "") -> None:
        """Remove what a job or clip has: all of it, or the objects whose names begin with `prefix`."""
        start = f"{owner}/{prefix}"
        await self.blobs.remove([name for name in await self.blobs.names(owner) if name.startswith(start)])
        if not prefix:
            await self._client.zrem(self._keys.clip_objects, owner)

    async def sweep(self) -> None:
        """Remove what belongs to no record: uploads never accepted, jobs and clips whose time is over."""
        latest = await now_ms(self._client, self._keys) - LEFT_OVER_MS
        owners = [name.decode() for name in await self._client.zrangebyscore(self._keys.clip_objects, "-inf", latest)]
        for start in range(0, len(owners), AT_ONCE):
            group = owners[start : start + AT_ONCE]
            records = await pipeline(self._client, [("EXISTS", self._keys.job(owner)) for owner in group])
            for owner, exists in zip(group, records, strict=True):
                if exists == 0:
                    await self.remove(owner)


async def one_piece(data: bytes) -> AsyncIterator[bytes]:
    """Yield `data`, as `BlobStore.put` takes it."""
    yield data
