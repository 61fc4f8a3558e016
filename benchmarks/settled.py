"""Waits until a service that has started moves its memory no more: what is measured before that is not what it does."""

from __future__ import annotations

import time
from collections.abc import Callable

from service import large_pages

#: Seconds after which a service that has moved nothing more is done: several times a piece and the rest behind it.
QUIET_S = 2.0


def until_settled(pid: int, sleep: Callable[[float], object] = time.sleep) -> int:
    """Wait until the process `pid`, which has just become ready, lies in large pages; return how many bytes do."""
    sleep(large_pages.DELAY_S + QUIET_S)
    before, now = -1, large_pages.bytes_in_large_pages(pid)
    while now != before:
        sleep(QUIET_S)
        before, now = now, large_pages.bytes_in_large_pages(pid)
    return now
