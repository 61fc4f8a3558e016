"""Counts the claimed items of the work streams and finds the oldest items' times: for the gauges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.core.types import Priority
from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.keys import GROUP, Keys

#: Streams looked at in one script, some ten microseconds of Redis' thread each.
AT_ONCE = 250
#: Milliseconds from one reading to the next, for each stream: so a front end takes about a hundredth of Redis' thread.
REST_MS = 1


@dataclass(slots=True)
class StreamAges:
    """Claimed items and the oldest items' times as they were last read; read again the less often the more streams."""

    claims: int = 0
    #: By class, on the server's clock, milliseconds; a class of which nothing is there has none.
    oldest_ms: dict[Priority, int] = field(default_factory=dict)
    _next_ms: int = 0

    async def read(self, client: AsyncRedis, keys: Keys, streams: Sequence[bytes], now: int) -> None:
        """Read `streams`, unless that was done just before. `now` is the server's time, milliseconds.

        A clock that was put back by more than the rest between two readings does not hold the next one up.
        """
        rest_ms = REST_MS * len(streams)
        if streams and self._next_ms - rest_ms <= now < self._next_ms:
            return
        claims, times = 0, dict[Priority, int]()
        # Calls first: the script is told how many those are. What another release names differently is no call.
        names = sorted((stream.decode() for stream in streams), key=lambda name: keys.priority(name) != Priority.LIVE)
        for start in range(0, len(names), AT_ONCE):
            group = names[start : start + AT_ONCE]
            live_count = sum(keys.priority(name) == Priority.LIVE for name in group)
            bound = scripts.AGES.bind(*group, group=GROUP, live_count=live_count)
            claimed, *oldest = await scripts.call(client, bound)
            claims += claimed
            for priority, time_ms in zip((Priority.LIVE, Priority.BACKGROUND), oldest, strict=True):
                if time_ms:
                    times[priority] = min(times.get(priority, time_ms), time_ms)
        self.claims, self.oldest_ms, self._next_ms = claims, times, now + rest_ms
