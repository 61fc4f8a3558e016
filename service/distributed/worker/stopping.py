"""Ends a worker's waits: when it is told to stop, which is remembered, or when their time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from service.distributed.broker.client import end


async def within(seconds: float, work: Awaitable[object]) -> bool:
    """Do `work` for at most `seconds`; true if it was done by then. Raises what it raises.

    Unlike asyncio.timeout this ends work that loses its first cancellation, as redis-py does while it connects.
    """
    task = asyncio.ensure_future(work)  # awaited here, and ended here
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        await end(task)
    if task.cancelled():
        return False
    task.result()
    return True


class Stopping:
    """Set once, by `set()`; `since` is then the time of it on the monotonic clock."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.since = 0.0

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """End every wait of `unless`, now and from now on."""
        if not self:
            self.since = time.monotonic()
            self._event.set()

    async def wait(self) -> None:
        """Wait for `set()`."""
        await self._event.wait()

    async def unless(self, work: Awaitable[object], grace: float = 0.0) -> None:
        """Do `work`, but no longer than `grace` seconds past `set()`; raises what it raises."""
        task = asyncio.ensure_future(work)  # awaited below, as is `stop_wait`
        stop_wait = asyncio.ensure_future(self._event.wait())  # awaited
        try:
            await asyncio.wait({task, stop_wait}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and grace:
                await asyncio.wait({task}, timeout=grace)
        finally:
            await end(task, stop_wait)
            if not task.cancelled():
                task.exception()  # seen: raised below, unless this wait itself was cancelled
        if not task.cancelled():
            task.result()
