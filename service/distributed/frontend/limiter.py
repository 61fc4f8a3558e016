"""Keeps callers' budgets in Redis, so that they hold over all front ends together."""

from __future__ import annotations

import asyncio
import time

from service.core.api_keys import ApiKey
from service.core.quota import GFLOP, REQUESTS, Quota
from service.core.token_bucket import LEAST, Allowance, BucketLevel, seconds_until
from service.distributed.broker import scripts
from service.distributed.broker.client import FAILED
from service.distributed.frontend.queue_client import QueueClient
from service.serving.access import Grant, LocalLimiter

#: Seconds that Redis may take; then this front end counts by itself.
ANSWER_S = 1.0
_NONE = Allowance(0.0, 0.0)


class RedisLimiter:
    """A `Limiter` over a started `QueueClient`. While Redis is away each front end keeps the budgets by itself."""

    def __init__(self, front: QueueClient) -> None:
        self._front = front
        self._alone = LocalLimiter(time.monotonic)

    async def take(self, key: ApiKey) -> Grant:
        """Count one request as `Limiter.take`."""
        if self._front.is_away:
            return self._alone.take_now(key)
        requests, gflop = key.requests or _NONE, key.gflop or _NONE
        bound = scripts.TAKE_ALLOWANCE.bind(
            allowance=self._front.keys.allowance(key.name),
            requests_capacity=repr(requests.capacity),
            requests_per_s=repr(requests.per_second),
            gflop_capacity=repr(gflop.capacity),
            gflop_per_s=repr(gflop.per_second),
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                is_taken, *tokens = await scripts.call(self._front.steady, bound)
        except (*FAILED, TimeoutError):
            return self._alone.take_now(key)
        return self._grant(key, is_taken=bool(is_taken), tokens=[float(text) for text in tokens])

    def _grant(self, key: ApiKey, *, is_taken: bool, tokens: list[float]) -> Grant:
        quotas = tuple(
            Quota(unit, allowance, BucketLevel(remaining, 0.0))
            for unit, allowance, remaining in zip((REQUESTS, GFLOP), (key.requests, key.gflop), tokens, strict=True)
            if allowance is not None
        )
        if is_taken:
            return Grant(quotas)
        wait = max(seconds_until(LEAST, quota.allowance, quota.level) for quota in quotas)
        return Grant(quotas, max(wait, 1e-3))
