"""Items that this worker cannot do: left to others, of another release or with other weights, and ended in the end.

While a fleet is updated, a front end of the next release may ask for what only the next release's workers know.
Knows nothing of how items are read or run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.distributed.broker import announcement, serialization
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.worker.claims import UNCOUNTED, Claims
from service.distributed.worker.items import LeasedItem
from service.distributed.worker.leases import Lease
from service.serving.jobs.job import Failure
from service.settings import Settings

log = logging.getLogger(__name__)

#: Leases for which no worker of another release may be seen before items are given up: one may be restarting.
PATIENCE_LEASES = 2


@dataclass(frozen=True, slots=True)
class _ForeignItem:
    item: LeasedItem
    why: str
    until: float  #: when it is given up in any case, on the clock


class ForeignItems:
    """The items that one worker leaves to others.

    `clock` is in seconds; `worker` is this worker's own name; `dialect` names what it can do.
    """

    def __init__(
        self,
        settings: Settings,
        client: AsyncRedis,
        claims: Claims,
        worker: str,
        clock: Callable[[], float] = time.monotonic,
        dialect: Callable[[], str] = serialization.dialect,
    ) -> None:
        self._dialect = dialect
        self._client, self._claims, self._worker, self._clock = client, claims, worker, clock
        self._lease_s, self._longest_s = settings.lease_ms / 1000, settings.job_ttl_s
        self._foreign: dict[Lease, _ForeignItem] = {}
        self._jobs: dict[str, str] = {}  #: why a job cannot be read here
        self._lonely_since: float | None = None
        self._newest = float("-inf")

    @property
    def leases(self) -> frozenset[Lease]:
        """Return the leases that this worker must not take again."""
        return frozenset(self._foreign)

    def covers(self, item: LeasedItem) -> bool:
        """Tell whether an item is of a job that is known to be unreadable here; it is then not taken either."""
        why = self._jobs.get(item.job)
        if why is not None:
            self._remember(item, why)
        return why is not None

    async def leave(self, item: LeasedItem, why: str) -> None:
        """Hand an item back for another release's worker; this run is not held against it."""
        if item.job not in self._jobs:
            log.warning("job %s is left to other workers: %s", item.job, why)
        self._remember(item, why)
        self._newest = self._clock()
        await self._claims.hand_back(item, UNCOUNTED)

    def passes_wake_on(self) -> bool:
        """Tell whether a wake token that this worker took was probably meant for another release's worker."""
        return self._lonely_since is None and self._clock() - self._newest < self._lease_s

    async def settle(self) -> None:
        """Forget what others did, and end what nobody will: to be called now and then."""
        if not self._foreign:
            return
        now = self._clock()
        if await self._others_live():
            self._lonely_since = None
        elif self._lonely_since is None:
            self._lonely_since = now
        lonely = self._lonely_since is not None and now - self._lonely_since >= PATIENCE_LEASES * self._lease_s
        leases = list(self._foreign)
        rows = await pipeline(self._client, [("XRANGE", stream, entry, entry) for stream, entry in leases])
        states = await pipeline(
            self._client, [("HGET", self._claims.keys.job(self._foreign[x].item.job), "s") for x in leases]
        )
        for lease, row, state in zip(leases, rows, states, strict=True):
            foreign = self._foreign[lease]
            is_open = state in (b"queued", b"running")
            is_gone = not row or isinstance(row, Exception)
            if is_gone or ((lonely or now >= foreign.until or not is_open) and await self._end(foreign, is_open)):
                del self._foreign[lease]
        self._jobs = {foreign.item.job: foreign.why for foreign in self._foreign.values()}

    async def _end(self, entry: _ForeignItem, is_open: bool) -> bool:
        """End an item; true if it was this worker that ended it. One that another worker runs is not touched."""
        item = entry.item
        if not await self._claims.take_idle(item):
            return False
        if not is_open:
            return await self._claims.drop(item)
        message = f"no worker that is alive can do this request, which was accepted for another: {entry.why}"
        return await self._claims.give_up(item, Failure("unavailable", message, reason="release"))

    async def _others_live(self) -> bool:
        """Tell whether a live worker says that it reads something else than this one, or does not say what."""
        names = [name for name in await self._claims.live_workers() if name != self._worker]
        if not names:
            return False
        infos = await self._client.mget([self._claims.keys.info(name) for name in names])
        ours = self._dialect()
        return any(info is not None and announcement.read_dialect(info) != ours for info in infos)

    def _remember(self, item: LeasedItem, why: str) -> None:
        patience = self._longest_s if item.left is None else max(0.0, item.left)
        self._jobs[item.job] = why
        self._foreign.setdefault(item.lease, _ForeignItem(item, why, self._clock() + patience))
