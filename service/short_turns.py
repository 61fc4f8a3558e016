"""Has Linux run a thread soon after it wakes, though others compute.

Since Linux 6.6 a thread that wakes may have to wait until whoever runs has used up a turn of some milliseconds; since
6.12 one whose own turns are shorter need not. It gets no more of the processor by that: once it has had its part it
waits as others do, unless it goes first. Elsewhere nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading

#: Seconds of a turn. A tenth of a millisecond gained little more, and costs every thread that this one starts.
TURN_S = 0.0003
#: The number of the system call sched_setattr, which Python does not have, by the machine's name.
_CALLS = {"x86_64": 314, "aarch64": 274}
#: struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
#: Its flag by which threads and processes that are started have the usual nice value and turns.
_RESET_ON_FORK = 1
#: The nice value of who goes first: about nine times the weight of the usual 0.
FIRST_NICE = -10


def take_short_turns() -> bool:
    """Ask for short turns of the calling thread, and of threads that it starts; tell whether the system took that.

    Its policy and nice value stay. One that an operator gave another policy is left alone.
    """
    return _set_attributes(None, 0)


def go_first() -> bool:
    """Have the calling thread go before others, in short turns; tell whether the system lets it.

    That takes a right: root's, CAP_SYS_NICE, or a limit (`ulimit -e 30`). A nice value that an operator gave is left
    alone. Threads that it starts do not go first, and ask for short turns themselves.
    """
    return _set_attributes(FIRST_NICE, _RESET_ON_FORK)


def _set_attributes(nice: int | None, flags: int) -> bool:
    """Set the calling thread's turns and its `nice` value, if it has the usual one; None leaves that."""
    number = _CALLS.get(platform.machine()) if platform.system() == "Linux" else None
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    own_nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    if nice is None:
        nice = own_nice
    elif own_nice != 0:
        return False
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, flags, nice, 0, round(TURN_S * 1e9), 0, 0)
    return int(ctypes.CDLL(None).syscall(number, 0, attributes, 0)) == 0
