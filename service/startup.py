"""A start: garbage is looked for seldom until it is over, and the log tells what is being done and how long it took.

Memory that frames leave is kept for the next ones. Imported first, so that `elapsed` counts from the process's
beginning.
"""

from __future__ import annotations

import gc
import logging
import time

log = logging.getLogger("service")

_BEGAN = time.monotonic()
_USUAL = gc.get_threshold()
#: What a start builds stays: looking through it every 700 objects is a fifth of its processor time. It is bounded all
#: the same, as a front end that waits for its first worker answers requests meanwhile.
_SELDOM = (100_000, 50, 100)
#: Bytes of a block that glibc keeps when it is freed, a frame of 1080p and more; at its heap's end it keeps twice that.
_KEPT = 8 * 2**20


def elapsed() -> float:
    """Return the seconds since the process began."""
    return time.monotonic() - _BEGAN


def collect_seldom() -> None:
    """Look for garbage seldom until `finish`: for a process that only serves."""
    gc.set_threshold(*_SELDOM)


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks of up to 8 MiB for the next ones of their size.

    glibc maps what is larger than 128 KiB anew each time and gives it back, until something larger is freed; it then
    takes that for usual. So one block is freed here. Else each copy of a frame of 256x448 takes 84 page faults.
    """
    bytes(_KEPT)  # of zeros that nobody reads, so it takes no memory


def begin(what: str) -> None:
    """Log that the start does `what` now."""
    log.info("starting: %s (after %.1f s)", what, elapsed())


def finish() -> None:
    """Log that the start is over; what is here stays and is never looked through again, new garbage as usual."""
    # To look through all of it in between would stop every request for 0.14 s.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL)
    log.info("started in %.1f s, %.1f s of processor time", elapsed(), time.process_time())
