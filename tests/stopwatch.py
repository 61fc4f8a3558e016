"""Times what must end soon, and measures beside it how late a busy machine lets anything run."""

from __future__ import annotations

import threading
import time
from types import TracebackType

#: Length of the short sleeps that are measured, seconds.
NAP_S = 0.01
#: A process that is waited for sleeps and wakes more often than the thread that measures.
FACTOR = 4


class Stopwatch:
    """Count seconds from its beginning on; a thread sleeps beside it and counts by how much its sleeps are too long."""

    def __init__(self) -> None:
        self._late_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Stopwatch:
        self._begin = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._begin

    def allows(self, limit_s: float) -> bool:
        """Return whether no more than `limit_s` have passed, beyond what the machine kept everybody waiting."""
        return self.seconds <= limit_s + FACTOR * self._late_s

    def _measure(self) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            time.sleep(NAP_S)
            self._late_s += time.monotonic() - begin - NAP_S
