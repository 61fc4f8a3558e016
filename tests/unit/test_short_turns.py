"""The event loop's thread takes short turns, and nothing else of it changes."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.short_turns import TURN_S, take_short_turns

#: The number of the system call sched_getattr.
GET = {"x86_64": 315, "aarch64": 275}


def _standing() -> tuple[int, int]:
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _turn_seconds() -> float:
    """How long the calling thread's turns are; 0 where the system does not tell."""
    attributes = ctypes.create_string_buffer(48)
    if ctypes.CDLL(None).syscall(GET[platform.machine()], 0, attributes, 48, 0) != 0:
        return 0.0
    return int(struct.unpack_from("=Q", attributes, 24)[0]) / 1e9


def _taken() -> tuple[tuple[int, int], bool, tuple[int, int], float]:
    before = _standing()
    return before, take_short_turns(), _standing(), _turn_seconds()


@pytest.mark.skipif(platform.machine() not in GET or platform.system() != "Linux", reason="turns are Linux's")
def test_a_thread_takes_short_turns_and_keeps_its_standing() -> None:
    # A thread of its own: pytest's would keep them.
    with ThreadPoolExecutor(1) as pool:
        before, is_taken, after, seconds = pool.submit(_taken).result()
    assert before == after
    if not is_taken:
        pytest.skip("this system refuses the call, or has given tests a policy of its own")
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    assert seconds == pytest.approx(TURN_S) or release < (6, 12)
