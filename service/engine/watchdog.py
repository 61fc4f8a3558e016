"""Takes a device for hung that does not answer for long: a timer while anything is in flight, none when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: A device is taken for hung only after so many times what its batch was predicted to take.
HUNG_FACTOR = 10.0


class Watchdog:
    """Looks at `busy` every `seconds` (0: never) from the first `arm` on, while `is_needed`."""

    def __init__(
        self,
        seconds: float,
        busy: Callable[[], tuple[float, float] | None],
        is_needed: Callable[[], bool],
        on_hung: Callable[[TimeoutError], None],
        clock: Callable[[], float],
    ) -> None:
        """Take what to ask: `busy` is (since, predicted seconds) while the device works, on `clock`, else None."""
        self._seconds, self._busy, self._is_needed = seconds, busy, is_needed
        self._on_hung, self._clock = on_hung, clock
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_armed(self) -> bool:
        """Tell whether the timer runs."""
        return self._timer is not None

    def arm(self, loop: asyncio.AbstractEventLoop, after: float | None = None) -> None:
        """Start the timer unless it runs."""
        if self._seconds and self._timer is None:
            self._timer = loop.call_later(after or self._seconds, self._look, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        busy, now, after = self._busy(), self._clock(), self._seconds
        if busy is not None:
            since, estimate = busy
            patience = max(self._seconds, HUNG_FACTOR * estimate)
            if now - since >= patience:
                self._on_hung(TimeoutError(f"the device has not answered for {now - since:.0f} s"))
                return
            after = since + patience - now
        if self._is_needed():
            self.arm(loop, max(after, 0.001))
