"""Runs work only as long as its caller is there.

Polling `request.is_disconnected()` does not notice in time; waiting for the disconnect message beside the work does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from service.core.errors import Cancelled

T = TypeVar("T")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives. Cancels it, and raises Cancelled, once the client left. Read the body first."""
    task = asyncio.ensure_future(work)  # awaited: by gather below, as is `watch`
    watch = asyncio.ensure_future(_left(receive))  # awaited
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        # Work that has ended is answered even if the client left in the same moment: sending will show it.
        if task.done():
            return task.result()
        raise Cancelled("the client left before the answer")
    finally:
        for future in (task, watch):
            future.cancel()
        # Awaited, so that nothing of this request is running when the next one of this connection begins.
        await asyncio.gather(task, watch, return_exceptions=True)
        # An error's traceback holds this frame, and it the task with its error: a cycle that would keep the body.
        del task, watch, future


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
