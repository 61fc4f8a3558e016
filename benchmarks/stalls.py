"""Tells when the machine itself stands still: a hypervisor that takes a core away, a kernel that lets nobody run.

On each core a process of real-time priority, before which nothing of ours runs, wakes every millisecond. Where it
wakes late, no program could have been in time. Needs the right to that priority (root), and some 2 % of each core.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Seconds of a sleep, and those beyond it that are not yet a stall.
PACE_S, USUAL_S = 0.001, 0.001
#: Real-time priority: in the middle, behind the kernel's own threads.
PRIORITY = 50
#: Seconds in which the watchers must have begun, and ended.
PATIENCE_S = 30.0


class Stall(NamedTuple):
    """A core stood still between two moments, seconds since the epoch."""

    start: float
    end: float


def seconds_within(stalls: Iterable[Stall], start: float, end: float) -> float:
    """Add up how long the stalls lasted between two moments; of several cores, all."""
    return sum(max(0.0, min(end, stall.end) - max(start, stall.start)) for stall in stalls)


def watch(clock: Callable[[], float], sleep: Callable[[float], None], goes_on: Callable[[], bool]) -> list[Stall]:
    """Sleep and look at the clock until told to end; return each time from a sleep's due end to its late one."""
    stalls, before = list[Stall](), clock()
    while goes_on():
        sleep(PACE_S)
        now = clock()
        if now - before > PACE_S + USUAL_S:
            stalls.append(Stall(before + PACE_S, now))
        before = now
    return stalls


@contextlib.contextmanager
def watching() -> Iterator[list[Stall]]:
    """Watch all cores during the block; the list is filled at its end. PermissionError without the right to."""
    stalls: list[Stall] = []
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(_watcher(core)) for core in sorted(os.sched_getaffinity(0))]
        for watcher in watchers:
            assert watcher.stdout is not None
            if watcher.stdout.readline().strip() != "begun":
                raise PermissionError("this user may not run processes of real-time priority")
        yield stalls
        for watcher in watchers:
            watcher.send_signal(signal.SIGTERM)
        for watcher in watchers:
            stalls += [Stall(*times) for times in json.loads(watcher.communicate(timeout=PATIENCE_S)[0])]


@contextlib.contextmanager
def _watcher(core: int) -> Iterator[subprocess.Popen[str]]:
    command, root = [sys.executable, "-m", "benchmarks.stalls", str(core)], Path(__file__).parent.parent
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root, text=True)
    try:
        yield watcher
    finally:
        watcher.kill()
        watcher.communicate()


def main() -> None:
    """Watch the core that is named, until SIGTERM; print "begun", then the stalls (JSON)."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    gc.disable()
    is_told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: is_told.append(number))
    print("begun", flush=True)
    print(json.dumps(watch(time.time, time.sleep, lambda: not is_told)), flush=True)


if __name__ == "__main__":
    main()
