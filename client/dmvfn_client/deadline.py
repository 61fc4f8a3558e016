"""How long a whole call may take, tries and waits included: httpx's own timeouts are for each read alone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx

from dmvfn_client.errors import DeadlineExceeded

#: Seconds a call may take, all tries together, where the caller says nothing.
TIMEOUT = 30.0


class Deadline:
    """`seconds` from now; None: no end."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds

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


class TimedUpload(httpx.SyncByteStream):
    """A request's body that stops at the deadline, however slowly it is taken."""

    def __init__(self, stream: httpx.SyncByteStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._deadline.check()
            yield piece


@contextlib.contextmanager
def cutting(response: httpx.Response, deadline: Deadline) -> Iterator[None]:
    """Ends the answer's connection at the deadline: a server that trickles would keep each single read in time."""
    left = deadline.left
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if left is None or not isinstance(connection, socket.socket):
        yield
        return
    timer = threading.Timer(max(0.0, left), _cut, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # Of the base class: an SSLSocket's own would be used by two threads at once.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
