"""Waits, for a few calls at once, until each is answered, and reads its answer in the same exchange.

What is told of such a call is told in a stream of its own, whose name is known beforehand: a read that waits for it
and the commands that fetch the answer are sent together, before there is one, so no time is lost between hearing of
an answer and having it. Each such call holds a connection; of more at once the listener hears together.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from service.distributed.broker.client import BLOCK_S, FAILED, LOST, backoff, end, pipeline
from service.distributed.frontend.queue_client import QueueClient
from service.telemetry.metrics import Background

#: Calls that have a reply of their own at once, and the bytes that the answer of each may have.
MOST_CALLS, MOST_BYTES = 8, 2**20


class OwnReplies:
    """The waits of one front end's calls. `is_awaited` tells whether a call's caller still waits for it.

    `hand_over` takes a call and what Redis has of its failure and of its result.
    """

    def __init__(
        self,
        front: QueueClient,
        is_awaited: Callable[[str], bool],
        hand_over: Callable[[str, Any, Any], Awaitable[None]],
    ) -> None:
        self._front, self._is_awaited, self._hand_over = front, is_awaited, hand_over
        self._places = MOST_CALLS
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random()

    def take_place(self, nbytes: int) -> bool:
        """Take a place for a call whose answer has `nbytes` at most, to be given back by `wait_for` or `leave_place`.

        False where there is none for it.
        """
        is_taken = self._places > 0 and nbytes <= MOST_BYTES
        self._places -= is_taken
        return is_taken

    def leave_place(self) -> None:
        """Give back the place of a call that was not accepted."""
        self._places += 1

    def wait_for(self, call: str) -> None:
        """Begin to wait for an accepted call; its place is free again when it is answered, or nobody waits for it."""
        task = self._front.supervisor.once(Background.REDIS_CALL, self._wait(call))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places += 1

    async def _wait(self, call: str) -> None:
        keys, client = self._front.keys, self._front.client
        job, out, reply = keys.job(call), keys.out(call, 0), keys.reply(call)
        # From its beginning: what was told before this read came is read, too, and again where its way here broke.
        news = ("XREAD", "BLOCK", round(1000 * BLOCK_S), "STREAMS", reply, "0-0")
        delays = backoff(self._rng)
        while self._is_awaited(call):
            try:
                told, failure, result = await pipeline(client, [news, ("HGET", job, "e"), ("GET", out)])
            except LOST:  # this connection, or a slow link; when Redis is away all calls are failed together
                await asyncio.sleep(next(delays))
                continue
            if told:
                await self._hand_over(call, failure, result)
                # Only now: an answer whose way here broke is read again. Should this fail, their time runs out.
                with contextlib.suppress(*FAILED):
                    await client.unlink(job, out, reply)
                return

    async def close(self) -> None:
        """End all waits: whoever still waits for a call is told by others."""
        await end(*self._tasks)
