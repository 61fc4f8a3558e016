"""Runs work only as long as its caller is there.

Polling `request.is_disconnected()` does not notice in time. Our protocol tells of a client that leaves; on any other
server a task waits for the disconnect message beside the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from service.core.errors import Cancelled
from service.rest.transport import bounded_protocol

T = TypeVar("T")


class _Departure:
    """Cancels a task once, when its client has left."""

    __slots__ = ("has_left", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.has_left = False

    def __call__(self) -> None:
        if not self.has_left:
            self.has_left = True
            self.task.cancel()


async def while_connected(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives. Cancels it, and raises Cancelled, once the client left. Read the body first.

    The work runs in the caller's own task, as within `asyncio.timeout`.
    """
    caller = asyncio.current_task()
    assert caller is not None
    departure, watch = _Departure(caller), None
    end_watch = bounded_protocol.watch_client(scope, departure)
    if end_watch is None:
        watch = asyncio.ensure_future(_wait_until_left(receive, departure))  # awaited below
    try:
        return await work
    except asyncio.CancelledError:
        if departure.has_left and caller.cancelling() == 1:
            raise Cancelled("the client left before the answer") from None
        raise
    finally:
        if departure.has_left:
            caller.uncancel()
        elif end_watch is not None:
            end_watch()
        elif watch is not None:
            watch.cancel()
            # Awaited, so that nothing of this request is running when the next one of this connection begins.
            await asyncio.wait((watch,))


async def _wait_until_left(receive: Receive, on_left: Callable[[], None]) -> None:
    # A connection that breaks while it is listened to has left as well.
    with contextlib.suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    on_left()
