"""The results of jobs kept in Redis: notes fetches, makes room, removes. Knows no request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.clip_objects import PIECE
from service.distributed.broker.clip_record import MARK
from service.distributed.broker.keys import Keys, whole

#: Jobs looked at in one round trip.
AT_ONCE = 100


class ResultStore:
    """The results of one queue, over a client of Redis; every verb raises what redis-py raises.

    `remove_elsewhere` removes what a job or clip keeps in another store.
    """

    def __init__(
        self, client: AsyncRedis, keys: Keys, remove_elsewhere: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        self._client = client
        self._keys = keys
        self._remove_elsewhere = remove_elsewhere

    async def fetched(self, job: str, item: int) -> None:
        """Note that one result reached its caller: a job that was fetched whole makes room for others."""
        bound = scripts.FETCHED.bind(job=self._keys.job(job), fetched=self._keys.fetched, item=item, job_id=job)
        await scripts.call(self._client, bound)

    async def forget(self, job: str, items: int) -> bool:
        """Remove a job that has ended, its state and results; False if it has not ended."""
        keys = self._keys
        bound = scripts.FORGET.bind(
            *(keys.out(job, item) for item in range(items)),
            job=keys.job(job),
            results=keys.results,
            kept=keys.kept,
            fetched=keys.fetched,
            job_id=job,
        )
        if not await scripts.call(self._client, bound):
            return False
        if self._remove_elsewhere is not None:
            await self._remove_elsewhere(job)
        return True

    async def forget_fetched(self, job: str) -> None:
        """Remove a job, or a clip, that was fetched whole."""
        await self.forget(job, await self._outs(job))

    async def make_room(self, nbytes: int) -> bool:
        """Remove jobs whose results were fetched, oldest first, until `nbytes` more fit; False if they do not."""
        before = await self._sum()
        await self._reckon()
        while await self._sum() > before - nbytes:
            oldest = await self._client.zrange(self._keys.fetched, 0, 0)
            if not oldest:
                return False
            await self.forget_fetched(oldest[0].decode())
        return True

    async def _outs(self, job: str) -> int:
        """Count the values that hold a job's results, or the pieces of a clip's."""
        kind, items, size = await self._client.hmget(self._keys.job(job), "f", "n", "size")
        return -(-whole(size) // PIECE) if kind == MARK else whole(items)

    async def _sum(self) -> int:
        return int(await self._client.hget(self._keys.results, "sum") or 0)

    async def _reckon(self) -> None:
        """Count in truth the results of jobs that older releases ended (they report none) and of jobs that are gone."""
        keys = self._keys
        jobs = [name.decode() for name in await self._client.hkeys(keys.results) if name != b"sum"]
        for start in range(0, len(jobs), AT_ONCE):
            group = jobs[start : start + AT_ONCE]
            records = await pipeline(self._client, [("HMGET", keys.job(job), "s", "n") for job in group])
            scores = await pipeline(self._client, [("ZSCORE", keys.kept, job) for job in group])
            for job, (state, items), score in zip(group, records, scores, strict=True):
                if state is None or (score is None and state not in (b"queued", b"running")):
                    outs = [keys.out(job, item) for item in range(int(items or 0))]
                    bound = scripts.RECKON.bind(
                        *outs, job=keys.job(job), results=keys.results, kept=keys.kept, job_id=job
                    )
                    await scripts.call(self._client, bound)
