"""How long a whole call may take, tries and waits included: httpx's own timeouts are for each read alone."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dmvfn_client.errors import DeadlineExceeded, InvalidInput

#: Seconds a call may take, all tries together, where the caller says nothing.
TIMEOUT = 30.0
#: Seconds that sockets can wait, some 30 years.
LONGEST = 1e9


class Deadline:
    """`seconds` from now; None, or more than LONGEST: no end. Raises InvalidInput for what is no number."""

    def __init__(self, seconds: float | None) -> None:
        try:
            is_number = seconds is None or not math.isnan(seconds)
        except TypeError:
            is_number = False
        if not is_number:
            why = f"timeout must be a number of seconds, or None, not {seconds!r}"
            raise InvalidInput(why, code="invalid_request", field="timeout")
        self._seconds = seconds
        self._until = None if seconds is None or seconds > LONGEST else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds left, negative after it; None: no end."""
        return None if self._until is None else self._until - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return self._until is not None and time.monotonic() >= self._until

    def error(self) -> DeadlineExceeded:
        """What to raise when it has passed."""
        return DeadlineExceeded(f"no answer within {self._seconds:g} s", code="deadline_exceeded")

    def check(self) -> float | None:
        """What is left; raises DeadlineExceeded where that is nothing."""
        if self.passed:
            raise self.error()
        return self.left


class _Bound(threading.local):
    """What bounds the calling thread's reads and writes."""

    deadline: Deadline | None = None


_bound = _Bound()
#: Bytes written in one go: the deadline is looked at between two.
_PIECE = 2**14
#: Seconds of the shortest wait; 0 would mean none at all, which is another error.
_SHORTEST = 0.001


@contextlib.contextmanager
def bounding(deadline: Deadline) -> Iterator[None]:
    """Bounds all that this thread reads and writes meanwhile, over connections that `bound_connection` has seen.

    A server that trickles its head, its body, or what it takes, keeps each single read and write in time.
    """
    _bound.deadline = deadline
    try:
        yield
    finally:
        _bound.deadline = None


def bound_connection(event: str, info: Mapping[str, Any]) -> None:
    """Takes a new connection, as httpx' extension `trace` tells of it, so that `bounding` reaches it."""
    if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
        stream: Any = info["return_value"]
        stream.read, stream.write = _bounded_read(stream.read), _bounded_write(stream.write)


def _bounded_read(read: Callable[[int, float | None], bytes]) -> Callable[..., bytes]:
    def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
        return read(max_bytes, _shorter(timeout))

    return bounded


def _bounded_write(write: Callable[[bytes, float | None], None]) -> Callable[..., None]:
    def bounded(buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            write(buffer[start : start + _PIECE], _shorter(timeout))

    return bounded


def _shorter(timeout: float | None) -> float | None:
    """Returns the seconds that a read or write may take; raises DeadlineExceeded where none are left."""
    left = None if _bound.deadline is None else _bound.deadline.check()
    if left is None:
        return timeout
    return max(_SHORTEST, left if timeout is None else min(timeout, left))
