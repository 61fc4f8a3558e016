"""Runs blocking work in a thread, and leaves no thread at work behind a caller that is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_to_end(work: Callable[[], Result], *, release: Callable[[Result], object] | None = None) -> Result:
    """Run `work` in a thread and return what it returns; raises what it raises.

    `asyncio.to_thread` lets a cancelled caller go on while the thread still uses the caller's files. This waits for
    the thread before it raises CancelledError, and hands a result that nobody takes any more to `release`, in a thread.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(work))  # awaited: below, whatever happens
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await _ended(thread)
        if release is not None and thread.exception() is None:
            await _ended(asyncio.ensure_future(asyncio.to_thread(release, thread.result())))  # awaited: in _ended
        raise


async def _ended(thread: asyncio.Future[Any]) -> None:
    """Wait for its end, however often the waiting task is cancelled meanwhile."""
    while not thread.done():
        try:
            await asyncio.wait({thread})
        except asyncio.CancelledError:
            continue
