"""The event loop's thread takes short turns, and nothing else of it changes."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.short_turns import FIRST_NICE, TURN_S, go_first, take_short_turns

#: The number of the system call sched_getattr.
GET = {"x86_64": 315, "aarch64": 275}
linux = pytest.mark.skipif(platform.machine() not in GET or platform.system() != "Linux", reason="turns are Linux's")


def _standing() -> tuple[int, int]:
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _turn_seconds() -> float:
    """How long the calling thread's turns are; 0 where the system does not tell."""
    attributes = ctypes.create_string_buffer(48)
    if ctypes.CDLL(None).syscall(GET[platform.machine()], 0, attributes, 48, 0) != 0:
        return 0.0
    return int(struct.unpack_from("=Q", attributes, 24)[0]) / 1e9


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _gone_first(start: int) -> tuple[bool, int, int, float]:
    """Whether a thread of nice value `start` goes first; its nice value then, and a thread's that it starts."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), start)
    except PermissionError:
        pytest.skip("tests may not choose their nice value here")
    took_it = go_first()
    with ThreadPoolExecutor(1) as pool:
        return took_it, _nice(), pool.submit(_nice).result(), _turn_seconds()


def _taken() -> tuple[tuple[int, int], bool, tuple[int, int], float]:
    before = _standing()
    return before, take_short_turns(), _standing(), _turn_seconds()


@linux
def test_a_thread_takes_short_turns_and_keeps_its_standing() -> None:
    # A thread of its own: pytest's would keep them.
    with ThreadPoolExecutor(1) as pool:
        before, is_taken, after, seconds = pool.submit(_taken).result()
    assert before == after
    if not is_taken:
        pytest.skip("this system refuses the call, or has given tests a policy of its own")
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    assert seconds == pytest.approx(TURN_S) or release < (6, 12)


@linux
def test_a_thread_goes_first_where_it_may_and_no_other_does() -> None:
    with ThreadPoolExecutor(1) as pool:
        goes_first, own, started, seconds = pool.submit(_gone_first, 0).result()
    if not goes_first:
        assert (own, started) == (0, 0), "nothing has changed"
        pytest.skip("this system does not let tests go first")
    assert (own, started) == (FIRST_NICE, 0)
    assert seconds in (0, pytest.approx(TURN_S))


@linux
def test_a_nice_value_that_an_operator_gave_stays() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_gone_first, 15).result()[:3] == (False, 15, 15)
