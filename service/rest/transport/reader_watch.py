"""Ends a connection whose client has stopped reading. Knows no protocol."""

from __future__ import annotations

import asyncio


class ReaderWatch:
    """Looks whether the client takes what waits for it in `transport`; aborts where it took nothing in `seconds`."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch from now on, until `stop` or until nothing waits any more."""
        self.stop()
        if nbytes := self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(self._seconds, self._check, nbytes)

    def stop(self) -> None:
        """Stop watching how much the client reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, previous: int) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() < previous:
            self.start()
        else:
            # Not close(): that would wait for the reader as well.
            self._transport.abort()
