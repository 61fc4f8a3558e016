"""Does work on bytes beside the event loop where they are many: a thread costs more than packing a small frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

#: What has more bytes is packed and read in a thread: 4K frames would stop the event loop for tens of milliseconds.
LARGE = 2**20


async def off_the_loop(nbytes: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do `work` on `nbytes`, in a thread where they are many; infinity: where it takes long whatever their number."""
    if nbytes > LARGE:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
