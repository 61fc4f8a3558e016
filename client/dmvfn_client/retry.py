"""When a failed try is followed by another: pure; chance and time are arguments."""

from __future__ import annotations

from dataclasses import dataclass

from dmvfn_client.errors import Busy, ConnectionFailed, DmvfnError


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `tries` tries. Waits double from `first` to `longest` seconds, or are what the service asks for."""

    tries: int = 4
    first: float = 0.2
    longest: float = 10.0

    def wait(self, error: DmvfnError, failed: int, remaining: float | None, chance: float) -> float | None:
        """Seconds until the next try after `failed` failed ones, or None to give up and raise `error`.

        `remaining`: seconds left of the caller's time, None for no end. `chance` in 0..1 spreads the waits of many
        clients. A prediction changes nothing on the server, so a broken connection is worth another try as well.
        """
        if failed >= self.tries or not isinstance(error, Busy | ConnectionFailed):
            return None
        backoff = min(self.longest, self.first * 2.0 ** (failed - 1)) * (0.5 + 0.5 * chance)
        # Never sooner than asked: that would only be refused again. A little later, so that not all return at once.
        asked = error.retry_after
        seconds = backoff if asked is None else max(backoff, asked * (1 + 0.25 * chance))
        if remaining is not None and seconds >= remaining:
            return None
        return seconds


#: For callers who try again themselves.
NEVER = Retry(tries=1)
