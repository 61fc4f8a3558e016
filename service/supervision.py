"""Supervises background work: restarts loops that fail, logs each failure with its traceback and counts it.

Knows nothing of what the work is. Work that somebody awaits (a request's own tasks) needs none of this: whoever awaits
it sees how it ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine

from service.telemetry.metrics import Background, Metrics

log = logging.getLogger(__name__)

#: Seconds before the first restart of a loop that failed; doubled with each failure up to LONGEST_S.
SHORTEST_S = 0.05
#: Well below the 5 s after which a front end without a pulse is no longer ready.
LONGEST_S = 2.0
#: A loop that ran for this long before it failed starts again with SHORTEST_S.
SETTLED_S = 30.0


class Supervisor:
    """Starts background work of one process part. `random` spreads restarts; `clock` is in seconds."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()
        self._once: set[asyncio.Task[None]] = set()

    def loop(self, name: Background, work: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """Run `work` until the task is cancelled, again after a pause whenever it raises or returns."""
        return asyncio.create_task(self._forever(name, work), name=name.value)

    def once(self, name: Background, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` to its end; what it raises is logged and counted. The task is referenced until then."""
        task = asyncio.create_task(self._to_its_end(name, work), name=name.value)
        self._once.add(task)
        task.add_done_callback(self._once.discard)
        return task

    @property
    def pending(self) -> tuple[asyncio.Task[None], ...]:
        """Return the tasks of `once` that have not ended."""
        return tuple(self._once)

    def failed(self, name: Background, error: BaseException | None) -> None:
        """Log and count one failure; `error` None: work that should go on for ever returned. For threads, too."""
        self._metrics.background_failed(name)
        if error is None:
            log.error("%s ended by itself; it is started again", name)
        else:
            log.error("%s failed", name, exc_info=error)

    async def _to_its_end(self, name: Background, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self.failed(name, error)
        except Exception as error:
            self.failed(name, error)

    async def _forever(self, name: Background, work: Callable[[], Awaitable[object]]) -> None:
        pause = SHORTEST_S
        while True:
            started_at = self._clock()
            failure: BaseException | None = None
            try:
                await work()
            except asyncio.CancelledError as error:
                # Raised inside, by a future that somebody else cancelled, it is a failure like any other.
                if _is_cancelled():
                    raise
                failure = error
            except Exception as error:
                failure = error
            if _is_cancelled():  # redis-py 8.1 can swallow a cancellation while it connects
                raise asyncio.CancelledError
            self.failed(name, failure)
            if self._clock() - started_at >= SETTLED_S:
                pause = SHORTEST_S
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.5))
            pause = min(LONGEST_S, 2 * pause)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
