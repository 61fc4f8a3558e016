"""Reads the queue and its workers for a front end: for the gauges, for prices and for times to wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.core.interfaces import ServedModel
from service.core.types import Priority
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.keys import Keys, whole
from service.distributed.frontend import clip_stats
from service.distributed.frontend.announcements import Announcements
from service.distributed.frontend.clip_stats import ClipStats
from service.distributed.frontend.prices import QueuePrices
from service.distributed.frontend.stream_ages import StreamAges


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue as last read. `work`: seconds of predicted work, queued and running; `prices`: of predictions."""

    items: int = 0
    bytes: int = 0
    work: float = 0.0
    leased: int = 0
    oldest: Mapping[Priority, float] = field(default_factory=dict)  #: seconds the oldest item has been there, by class
    dead: int = 0
    results: int = 0  #: bytes of jobs' results, and of those to come
    workers: int = 0
    prices: QueuePrices = field(default_factory=QueuePrices)
    clips: ClipStats = field(default_factory=ClipStats)

    @property
    def wait(self) -> float:
        """Predict seconds until all that is there is done; one worker is assumed where none lives, as one will."""
        return self.work / max(1, self.workers)

    def gauges(self, name: str, *, is_up: bool) -> list[tuple[str, str, dict[str, str], float]]:
        """Return the series of the queue of this name, for `Metrics.watch`."""
        queue = {"queue": name}
        return [
            ("redis_queue_items", "Items not yet claimed.", queue, max(0, self.items - self.leased)),
            ("redis_leased_items", "Items claimed by workers.", queue, self.leased),
            ("redis_queue_bytes", "Bytes of frames, queued and claimed.", queue, self.bytes),
            ("redis_result_bytes", "Bytes of jobs' results, kept and to come.", queue, self.results),
            *self._ages(queue),
            ("redis_work_seconds", "Predicted work of all items; the signal to scale on.", queue, self.work),
            ("redis_dead_letters_kept", "Dead letters waiting for an operator.", queue, self.dead),
            ("redis_workers", "Workers alive.", queue, self.workers),
            ("redis_up", "1 while Redis answers.", queue, float(is_up)),
            *self.clips.gauges(queue),
        ]

    def _ages(self, queue: dict[str, str]) -> list[tuple[str, str, dict[str, str], float]]:
        text = "Age of the oldest item: of calls (live), and of jobs and clips (background)."
        ages = [({**queue, "priority": priority.name.lower()}, self.oldest.get(priority, 0.0)) for priority in Priority]
        return [("redis_oldest_age_seconds", text, labels, age) for labels, age in ages]


async def look(
    client: AsyncRedis, keys: Keys, announcements: Announcements, ages: StreamAges, now: int
) -> tuple[QueueStats, ServedModel | None]:
    """Read the queue and the model that its workers announce, None where none ever did. `now` is the server's, ms.

    Four round trips, however many workers, one more for every few hundred sizes, and one where there are clips: Redis
    may be far away. Raises what FAILED names.
    """
    load = ("HMGET", keys.load, "items", "bytes", "work")
    workers = ("ZRANGEBYSCORE", keys.workers, now, "+inf")
    counts = [workers, load, ("SMEMBERS", keys.buckets), ("XLEN", keys.dead), ("HGET", keys.results, "sum")]
    answers = await pipeline(client, [*counts, *clip_stats.commands(keys, now)])
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    names, sums, streams, dead, results = answers[: len(counts)]
    *infos, latest = await client.mget([*(keys.info(name.decode()) for name in names), keys.model])
    model, prices = announcements.read(names, infos, latest)
    await ages.read(client, keys, list(streams), now)
    items, size, work = map(whole, sums)
    stats = QueueStats(
        items=items,
        bytes=size,
        work=work / 1e6,
        leased=ages.claims,
        oldest={priority: max(0, now - time_ms) / 1000 for priority, time_ms in ages.oldest_ms.items()},
        dead=dead,
        results=int(results or 0),
        workers=len(names),
        prices=prices,
        clips=await clip_stats.read_clips(client, keys, now, answers[len(counts) :]),
    )
    return stats, model
