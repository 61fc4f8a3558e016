"""Has Linux move the memory of this process into pages of 2 MiB.

A processor remembers where a few thousand pages are, of 4 KiB each if nobody asks for more: less than one frame's
prediction reads. What it does not remember it looks up in tables, in memory as well. Elsewhere, before Linux 6.1, and
where an operator has turned large pages off, nothing is changed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from pathlib import Path

PAGE = 2**21
#: Advice of madvise(2) that Python does not have.
_MADV_COLLAPSE = 25
#: A line of /proc/self/maps for memory that is private, may be written and belongs to no file: the heap or nameless.
_OWN_MEMORY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.p 00000000 00:00 0 *(\[heap\]|\[anon:.*\])?")
_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> int:
    """Move all that this process keeps in memory now, and return how many bytes are in large pages then.

    It takes some tenths of a second without the interpreter's lock. What the process comes to need later is not moved.
    """
    try:
        policy, maps = _POLICY.read_text(), Path("/proc/self/maps").read_text()
    except OSError:
        return 0
    if "[never]" in policy:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in own_ranges(maps.splitlines()):
        madvise(start, end - start, _MADV_COLLAPSE)  # a range that cannot be moved stays as it is
    return _bytes_in_large_pages()


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


def _bytes_in_large_pages() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0
