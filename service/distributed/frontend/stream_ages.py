"""Counts the claimed items of the work streams and finds the oldest item's time: for the gauges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.keys import GROUP

#: Streams looked at in one script, some ten microseconds of Redis' thread each.
AT_ONCE = 250
#: Milliseconds from one reading to the next, for each stream: so a front end takes about a hundredth of Redis' thread.
REST_MS = 1


@dataclass(slots=True)
class StreamAges:
    """Claimed items and the oldest item's time as they were last read; read again the less often the more streams."""

    claims: int = 0
    oldest_ms: int | None = None  #: on the server's clock; None where nothing waits
    _next_ms: int = 0

    async def read(self, client: AsyncRedis, streams: Sequence[bytes], now: int) -> None:
        """Read `streams`, unless that was done just before. `now` is the server's time, milliseconds.

        A clock that was put back by more than the rest between two readings does not hold the next one up.
        """
        rest_ms = REST_MS * len(streams)
        if streams and self._next_ms - rest_ms <= now < self._next_ms:
            return
        claims, times = 0, []
        for start in range(0, len(streams), AT_ONCE):
            names = [stream.decode() for stream in streams[start : start + AT_ONCE]]
            claimed, time_ms = await scripts.call(client, scripts.AGES.bind(*names, group=GROUP))
            claims += claimed
            times += [time_ms] if time_ms else []
        self.claims, self.oldest_ms, self._next_ms = claims, min(times, default=None), now + rest_ms
