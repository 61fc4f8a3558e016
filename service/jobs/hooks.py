"""Delivers the webhooks of jobs kept in Redis: at least once each, by whichever front end takes one first."""

from __future__ import annotations

import asyncio
import logging
import random

from service.core.job import webhook_wait
from service.engine import webhook
from service.jobs import scripts
from service.jobs.connect import LOST, waits
from service.jobs.front import Front
from service.jobs.store import job_view
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)

#: A sender that died is taken over from after this.
HELD_MS = 60_000
#: How often the due ones are looked for. A webhook is no low-latency channel.
LOOK_S = 1.0


class HookSender:
    """`run()` beside a started `Front`, for ever."""

    def __init__(self, settings: Settings, front: Front, metrics: Metrics) -> None:
        self._settings = settings
        self._front = front
        self._metrics = metrics
        self._rng = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        delays = waits(self._rng)
        while True:
            try:
                if not await self.deliver_one():
                    await asyncio.sleep(LOOK_S)
                delays = waits(self._rng)
            except LOST:
                await asyncio.sleep(next(delays))

    async def deliver_one(self) -> bool:
        """Tries one that is due; False if none is."""
        client, keys = self._front.client, self._front.keys
        found = await scripts.call(client, scripts.HOOK, [keys.hooks], [HELD_MS])
        if found is None:
            return False
        job = found.decode()
        fields = await client.hgetall(keys.job(job))
        url = fields.get(b"hook", b"").decode()
        if not url:  # the job has expired, or an operator purged it
            await client.zrem(keys.hooks, job)
            return True
        sent = await asyncio.to_thread(webhook.send, url, self._settings.webhook_secret, job_view(job, fields))
        wait = None if sent else webhook_wait(await client.hincrby(keys.job(job), "tries", 1), self._rng.random())
        if wait is None:
            await client.zrem(keys.hooks, job)
            self._metrics.webhook("delivered" if sent else "failed")
        else:
            await client.zadd(keys.hooks, {job: await self._front.now_ms() + round(1000 * wait)})
        return True
