"""Orders uploads to Redis: a few at once, first come, first served.

All at once, each would be so slow that its connection's time runs out, and the server would look lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Uploads under way at once; half of the connections, the others fetch answers meanwhile.
MOST = 16
#: Their bytes together; one larger than this goes alone. At 10 MB/s they take 0.8 s, far below a connection's 5 s.
MOST_BYTES = 8 * 2**20


class Uploads:
    """A semaphore of `most` places and `most_bytes` bytes, which serves in the order of arrival."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._running = self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def place(self, nbytes: int) -> AsyncIterator[None]:
        """Wait for room for `nbytes`, for as long as the caller lets it, and hold it during the block."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._running -= 1
                self._bytes -= nbytes
            else:
                turn.cancel()
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            nbytes, turn = self._waiting[0]
            if not turn.done():  # else its caller left
                full = self._running >= self._most or self._bytes + nbytes > self._most_bytes
                if full and self._running:
                    return
                self._running += 1
                self._bytes += nbytes
                turn.set_result(None)
            self._waiting.popleft()
