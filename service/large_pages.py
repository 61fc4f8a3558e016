"""Has Linux move the memory of this process into pages of 2 MiB.

A processor remembers where a few thousand pages are, of 4 KiB each if nobody asks for more: less than one frame's
prediction reads. What it does not remember it looks up in tables, in memory as well. Elsewhere, before Linux 6.1, and
where an operator has turned large pages off, nothing is changed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.telemetry.background import Background

if TYPE_CHECKING:  # benchmarks import this module where the service's packages are missing
    from service.supervision import Supervisor

log = logging.getLogger("service")

PAGE = 2**21
#: Bytes that are moved at a time while the process serves: 20 ms of a processor at most.
PIECE = 4 * PAGE
#: Seconds of serving before the first piece: whoever is ready gets a burst of requests, and what they need lies there
#: then and is moved, too.
DELAY_S = 5.0
#: How many times as long as the last piece took nothing is moved: a busy machine makes pieces, and rests, longer.
REST = 3.0
#: Advice of madvise(2) that Python does not have.
_MADV_COLLAPSE = 25
#: A line of /proc/self/maps for memory that is private, may be written and belongs to no file: the heap or nameless.
_OWN_MEMORY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.p 00000000 00:00 0 *(\[heap\]|\[anon:.*\])?")
_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> int:
    """Move all that this process keeps in memory now, and return how many bytes are in large pages then.

    It takes some tenths of a second without the interpreter's lock. What the process comes to need later is not moved.
    """
    for start, end in _own_memory():
        _move(start, end)
    return bytes_in_large_pages()


@asynccontextmanager
async def moving_memory(supervisor: Supervisor) -> AsyncIterator[None]:
    """Move what this process keeps while the block serves, and stop at its end; `supervisor` tells of a failure."""
    moving = supervisor.once(Background.LARGE_PAGES, use_large_pages_gently())
    try:
        yield
    finally:
        moving.cancel()
        await asyncio.wait((moving,))


async def use_large_pages_gently(
    delay_s: float = DELAY_S, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> None:
    """Move all that this process keeps `delay_s` seconds from now, piece by piece in a thread, with rests between.

    A quarter of a core for some seconds. While a page of 2 MiB is moved, a thread that needs it waits a millisecond.
    """
    await sleep(delay_s)
    for start, end in in_pieces(await asyncio.to_thread(_own_memory)):
        begin = time.perf_counter()
        await asyncio.to_thread(_move, start, end)
        await sleep(REST * (time.perf_counter() - begin))
    log.info("%d MiB of memory are in large pages", await asyncio.to_thread(bytes_in_large_pages) // 2**20)


def in_pieces(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut ranges of addresses, start and end, into such of PIECE bytes at most."""
    return [(at, min(at + PIECE, end)) for start, end in ranges for at in range(start, end, PIECE)]


def own_ranges(maps: Iterable[str]) -> list[tuple[int, int]]:
    """Return the whole large pages within a process's own memory, as start and end, from lines of /proc/PID/maps."""
    ranges = []
    for line in maps:
        if match := _OWN_MEMORY.fullmatch(line):
            start, end = (int(address, 16) for address in match.group(1, 2))
            start, end = -(-start // PAGE) * PAGE, end // PAGE * PAGE
            if start < end:
                ranges.append((start, end))
    return ranges


def bytes_in_large_pages(pid: int | str = "self") -> int:
    """Return how many bytes of a process lie in large pages; 0 where the system does not say."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in rollup.splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


def _own_memory() -> list[tuple[int, int]]:
    """Return what of this process may be moved; nothing where an operator turned large pages off."""
    try:
        policy, maps = _POLICY.read_text(), Path("/proc/self/maps").read_text()
    except OSError:
        return []
    return [] if "[never]" in policy else own_ranges(maps.splitlines())


def _move(start: int, end: int) -> None:
    """Have whole pages between two addresses moved; what cannot be moved, or is no longer there, stays as it is."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise(start, end - start, _MADV_COLLAPSE)
