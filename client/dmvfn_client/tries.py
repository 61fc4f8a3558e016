"""The tries of one call, whoever waits for them: how long each may take, and what follows one that failed."""

from __future__ import annotations

import random

from dmvfn_client.deadline import Deadline
from dmvfn_client.errors import DmvfnError
from dmvfn_client.retry import Retry


class Tries:
    """One call of at most `seconds`, tried again as `retry` says; None: no end."""

    def __init__(self, retry: Retry, seconds: float | None) -> None:
        self._retry, self._failed = retry, 0
        self.deadline = Deadline(seconds)

    def pause(self, error: DmvfnError) -> float:
        """Count a failed try; return the seconds until the next one. Raises `error` where there is none."""
        self._failed += 1
        seconds = self._retry.wait(error, self._failed, self.deadline.left, random.random())
        if seconds is None:
            raise error
        return seconds
