"""Bounds the bytes that all requests in flight hold together, from the first of a body to the last of its answer.

One object for the whole service, shared by HTTP, gRPC, WebSocket and jobs. Nothing ever waits for room: who does not
fit is refused at once, so that requests which hold some of it and need more cannot wait for one another.
"""

from __future__ import annotations

import threading
from types import TracebackType

from service.core.errors import QueueFull

#: Seconds after which a refused caller may try again: about as long as a small answer takes to leave.
RETRY_S = 1.0


class ByteBudget:
    """`limit` bytes for all holdings together; one that is alone is always admitted. Safe from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._lock = threading.Lock()

    def open(self) -> ByteHolding:
        """Open a request's share, empty at first; `release` it whatever happens."""
        return ByteHolding(self)

    def _grow(self, holding: ByteHolding, count: int) -> None:
        with self._lock:
            if holding.over:  # a decoder's thread that outlived its request
                raise QueueFull("the request is over", retry_after=RETRY_S)
            others = self.held - holding.nbytes
            if count > 0 and others > 0 and self.held + count > self.limit:
                raise QueueFull(
                    f"requests in flight hold {self.held} of {self.limit} bytes; this one needs {count} more",
                    retry_after=RETRY_S,
                )
            self.held += count
            holding.nbytes += count

    def _shrink(self, holding: ByteHolding, count: int) -> None:
        with self._lock:
            count = min(count, holding.nbytes)
            self.held -= count
            holding.nbytes -= count

    def _settle(self, holding: ByteHolding, nbytes: int) -> None:
        with self._lock:
            self.held += nbytes - holding.nbytes
            holding.nbytes = nbytes


class ByteHolding:
    """What one request holds, bytes. Also a context manager that releases it. Safe from any thread."""

    __slots__ = ("_budget", "nbytes", "over")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.nbytes = 0
        self.over = False

    def grow(self, count: int) -> None:
        """Reserve `count` more bytes. Raises QueueFull where there is no room for them, and nothing changes then."""
        self._budget._grow(self, count)

    def shrink(self, count: int) -> None:
        """Give back `count` bytes; at most all."""
        self._budget._shrink(self, count)

    def settle(self, nbytes: int) -> None:
        """Set the share to `nbytes`, as has been found out; never refused, since they are there already."""
        self._budget._settle(self, nbytes)

    def release(self) -> None:
        """Give everything back, and take no more; more than once does no harm."""
        self.over = True
        self.settle(0)

    def __enter__(self) -> ByteHolding:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
