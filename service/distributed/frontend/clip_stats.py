"""Reads the clips of a queue for the gauges: how many wait and are made, how far they are, what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.keys import Keys, whole

#: Of a clip's record.
FIELDS = ("s", "at", "n", "done", "ranges", "body", "size")
Series = tuple[str, str, dict[str, str], float]


@dataclass(frozen=True, slots=True)
class ClipStats:
    """The clips of one queue. Those whose maker went away wait, too.

    `oldest`: seconds since the first of those was accepted that nobody has begun.
    """

    queued: int = 0
    running: int = 0
    frames: int = 0  #: of those, that are not written yet
    ranges: int = 0  #: of predicted frames that are kept for whoever takes them over
    nbytes: int = 0  #: of bodies and results, wherever they are
    oldest: float = 0.0

    def gauges(self, labels: dict[str, str]) -> list[Series]:
        """Return the series for `Metrics.watch`."""
        return [
            ("redis_clips_queued", "Clips that wait to be made.", labels, self.queued),
            ("redis_clips_running", "Clips that a front end is making.", labels, self.running),
            ("redis_clip_frames_waiting", "Frames of these clips that are not written yet.", labels, self.frames),
            ("redis_clip_ranges", "Ranges of predicted frames kept until their clips are done.", labels, self.ranges),
            ("redis_clip_bytes", "Bytes of clips and of their results, wherever they are.", labels, self.nbytes),
            ("redis_clip_oldest_wait_seconds", "For how long the first clip of the line waits.", labels, self.oldest),
        ]


def commands(keys: Keys, now: int) -> list[tuple[Any, ...]]:
    """Return the commands whose answers `read_clips` takes; they go with others. `now` is the server's, ms."""
    return [
        ("ZCARD", keys.clip_line),
        ("ZCOUNT", keys.clip_leases, "-inf", now),
        ("ZCOUNT", keys.clip_leases, now + 1, "+inf"),
        ("HKEYS", keys.clips),
    ]


async def read_clips(client: AsyncRedis, keys: Keys, now: int, answers: Sequence[Any]) -> ClipStats:
    """Read what `commands` were answered; one round trip more where there are clips. Raises what FAILED names."""
    line, without_maker, running, names = answers
    clips = [name.decode() for name in names]
    records = await pipeline(client, [("HMGET", keys.job(clip), *FIELDS) for clip in clips]) if clips else []
    frames = ranges = nbytes = oldest = 0
    for record in records:
        if isinstance(record, Exception):
            raise record
        accepted_at, total, written, range_count, body, result = map(whole, record[1:])
        if record[0] == b"queued":
            oldest = max(oldest, now - accepted_at)
        if record[0] in (b"queued", b"running"):
            frames, ranges, nbytes = frames + max(0, total - written), ranges + range_count, nbytes + body
        else:
            nbytes += result
    return ClipStats(line + without_maker, running, frames, ranges, nbytes, oldest / 1000)
