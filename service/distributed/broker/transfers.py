"""Orders what is large on its way to Redis: a few at once, first come, first served, and fewer where the link is slow.

All at once, each would be so slow that its connection's time runs out, and the server would look lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

#: Transfers under way at once; half of a process's connections, the others fetch meanwhile.
MOST = 16
#: Their bytes together; one larger than this goes alone. At 10 MB/s they take 0.8 s, far below a connection's 5 s.
MOST_BYTES = 8 * 2**20
#: A transfer that takes longer than this, in seconds, halves how many may be under way.
SLOW_S = 1.0


class Transfers:
    """A semaphore of `most` places and `most_bytes` bytes, which serves in the order of arrival.

    Additive increase, multiplicative decrease (Chiu and Jain 1989): a slow transfer halves the places, once for all
    that were under way with it, and as many quick ones as there are places add one.
    """

    def __init__(
        self, most: int = MOST, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._most_bytes, self._clock = most, most_bytes, clock
        self._running = self._bytes = 0
        self._places = float(most)
        self._halved_at = float("-inf")
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def places(self) -> int:
        """Count how many transfers may be under way at once, as the link is now."""
        return int(self._places)

    @asynccontextmanager
    async def place(self, nbytes: int) -> AsyncIterator[None]:
        """Wait for room for `nbytes`, for as long as the caller lets it, and hold it during the block."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        self._admit()
        start = float("inf")
        try:
            await turn
            start = self._clock()
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._running -= 1
                self._bytes -= nbytes
                self._learn(start)
            else:
                turn.cancel()
            self._admit()

    def _learn(self, start: float) -> None:
        now = self._clock()
        if now - start <= SLOW_S:
            self._places = min(self._most, self._places + 1 / self._places)
        elif start >= self._halved_at:
            self._places, self._halved_at = max(1.0, self._places / 2), now

    def _admit(self) -> None:
        while self._waiting:
            nbytes, turn = self._waiting[0]
            if not turn.done():  # else its caller left
                full = self._running >= self.places or self._bytes + nbytes > self._most_bytes
                if full and self._running:
                    return
                self._running += 1
                self._bytes += nbytes
                turn.set_result(None)
            self._waiting.popleft()
