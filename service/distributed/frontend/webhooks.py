"""Delivers the webhooks of jobs kept in Redis: at least once each, by the front end that takes one first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from service.distributed.broker import scripts
from service.distributed.broker.client import FAILED, LOST, backoff, end
from service.distributed.frontend.job_store import job_view
from service.distributed.frontend.queue_client import QueueClient
from service.serving.jobs.job import WEBHOOK_LONGEST_S, webhook_wait
from service.serving.jobs.webhook import AT_ONCE, Sender
from service.settings import Settings
from service.telemetry.metrics import Background, Metrics

log = logging.getLogger(__name__)

#: A sender that died is taken over from after this.
HELD_MS = 60_000
#: Seconds that a delivery may take with its wait for a thread: well before another sender takes it, or it comes twice.
SEND_S = HELD_MS / 2000
#: How often the due ones are looked for. A webhook is no low-latency channel.
LOOK_S = 1.0


class WebhookSender:
    """Sends due webhooks: `run()` beside a started `QueueClient`, for ever; then `close()`."""

    def __init__(self, settings: Settings, front: QueueClient, metrics: Metrics) -> None:
        self._front = front
        self._metrics = metrics
        self._sender = Sender(settings.webhook_secret)
        self._rng = random.Random()

    async def run(self) -> None:
        """Send until cancelled. A webhook whose receiver is slow or gone takes one of AT_ONCE places, for seconds."""
        sending: set[asyncio.Task[None]] = set()
        delays = backoff(self._rng)
        try:
            while True:
                wait = LOOK_S
                try:
                    if len(sending) < AT_ONCE and (job := await self.due()):
                        task = self._front.supervisor.once(Background.WEBHOOK, self.deliver(job))
                        sending.add(task)
                        task.add_done_callback(sending.discard)
                        wait = 0.0
                    delays = backoff(self._rng)
                except FAILED as error:
                    self._say(error)
                    wait = next(delays)
                await asyncio.sleep(wait)
        finally:
            await end(*sending)

    def close(self) -> None:
        """Close the sender; an undelivered webhook is due again at another front end."""
        self._sender.close()

    async def due(self) -> str | None:
        """Take a job whose webhook is to be sent now, by this sender for HELD_MS; None if there is none."""
        longest_ms = HELD_MS + round(1000 * WEBHOOK_LONGEST_S)
        bound = scripts.TAKE_WEBHOOK.bind(hooks=self._front.keys.hooks, lease_ms=HELD_MS, longest_ms=longest_ms)
        job = await scripts.call(self._front.client, bound)
        return None if job is None else job.decode()

    async def deliver(self, job: str) -> None:
        """Try once, and note the outcome; should Redis fail meanwhile, it is due again after HELD_MS."""
        try:
            await self._deliver(job)
        except FAILED as error:
            self._say(error)

    async def _deliver(self, job: str) -> None:
        client, keys = self._front.client, self._front.keys
        fields = await client.hgetall(keys.job(job))
        url, view = fields.get(b"hook", b"").decode(), job_view(job, fields)
        if not url or view is None:  # the job has expired, an operator purged it, or part of its record is lost
            await client.zrem(keys.hooks, job)
            return
        is_delivered = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_S):
                is_delivered = await self._sender.send(url, view)
        # 0: the job has expired meanwhile.
        bound = scripts.COUNT_WEBHOOK_TRY.bind(job=keys.job(job))
        tries = 0 if is_delivered else int(await scripts.call(client, bound))
        wait = webhook_wait(tries, self._rng.random()) if tries else None
        if wait is None:
            await client.zrem(keys.hooks, job)
            self._metrics.webhook("delivered" if is_delivered else "failed")
        else:
            await client.zadd(keys.hooks, {job: await self._front.now_ms() + round(1000 * wait)})

    def _say(self, error: Exception) -> None:
        if not isinstance(error, LOST):  # that Redis is away, its front end says
            log.warning("webhooks wait: %s", error)
