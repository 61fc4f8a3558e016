"""Runs work only as long as its caller is there.

Polling `request.is_disconnected()` does not notice in time; waiting for the disconnect message beside the work does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from service.core.errors import Cancelled

T = TypeVar("T")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives. Cancels it, and raises Cancelled, once the client left. Read the body first.

    The work runs in the caller's own task, as within `asyncio.timeout`: only the waiting needs another one.
    """
    caller = asyncio.current_task()
    assert caller is not None
    watch = asyncio.ensure_future(_cancel_when_left(receive, caller))  # awaited below
    try:
        return await work
    except asyncio.CancelledError:
        if watch.done() and caller.cancelling() == 1:
            raise Cancelled("the client left before the answer") from None
        raise
    finally:
        if watch.done():
            caller.uncancel()
        else:
            watch.cancel()
            # Awaited, so that nothing of this request is running when the next one of this connection begins.
            await asyncio.wait((watch,))


async def _cancel_when_left(receive: Receive, caller: asyncio.Task[Any]) -> None:
    # A connection that breaks while it is listened to has left as well.
    with contextlib.suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    caller.cancel()
