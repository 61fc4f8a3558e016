"""Counts the claimed items of the work streams and finds the oldest item's time: for the gauges."""

from __future__ import annotations

from collections.abc import Sequence

from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.keys import GROUP


async def ages(client: AsyncRedis, streams: Sequence[bytes], now: int) -> tuple[int, int]:
    """Count the claimed items of `streams`, and find when the oldest came (milliseconds; `now` if there is none)."""
    commands = [command for s in streams for command in (("XRANGE", s, "-", "+", "COUNT", 1), ("XPENDING", s, GROUP))]
    answers = await pipeline(client, commands)
    claims, oldest = 0, now
    for first, pending in zip(answers[::2], answers[1::2], strict=True):
        # A stream may be gone by now, and its group with it.
        if first and not isinstance(first, Exception):
            oldest = min(oldest, int(first[0][0].split(b"-")[0]))
        if not isinstance(pending, Exception):
            claims += pending["pending"]
    return claims, oldest
