"""Asks Redis for a front end's caller: bounded in time, and failures in the words of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import redis

from service.core.errors import QueueFull
from service.distributed.broker.client import LOST, classify
from service.distributed.frontend.queue_client import QueueClient

T = TypeVar("T")

#: Seconds that a question may take, the wait for a free connection included.
ASK_S = 15.0


async def ask(front: QueueClient, question: Awaitable[T]) -> T:
    """Await an answer of Redis. Raises Unavailable while it is away, QueueFull where its memory is full."""
    try:
        # Beyond a connection's own time-out: when Redis hangs, many wait for few connections.
        async with asyncio.timeout(ASK_S):
            return await question
    except LOST:
        raise front.unavailable() from None
    except redis.exceptions.OutOfMemoryError:
        raise QueueFull("Redis has no memory left", retry_after=5.0) from None
    except redis.ResponseError as error:
        if isinstance(classify(error), LOST):
            raise front.unavailable() from None
        raise
