"""Which jobs and clips a client has in Redis, newest first."""

from __future__ import annotations

import time
from typing import Any

from service.distributed.broker.client import pipeline
from service.distributed.frontend.asking import ask
from service.distributed.frontend.queue_client import QueueClient
from service.serving.jobs.job import LISTED

#: A client's list is forgotten so long after its last job; the jobs themselves are long gone.
OWN_MS = 30 * 86_400_000


async def owned_records(front: QueueClient, client: str) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return ids and records of a client's jobs and clips; ids of those that are gone leave the list."""
    own = front.keys.owned(client)
    names = await ask(front, front.client.zrange(own, 0, LISTED - 1, desc=True))
    ids = [name.decode() for name in names]
    if not ids:
        return []
    answers = await ask(front, pipeline(front.client, [("HGETALL", front.keys.job(job)) for job in ids]))
    records = [(job, _fields(answer)) for job, answer in zip(ids, answers, strict=True)]
    if missing := [job for job, fields in records if not fields]:
        await ask(front, front.client.zrem(own, *missing))
    return [(job, fields) for job, fields in records if fields]


async def own(front: QueueClient, client: str, job: str) -> None:
    """Note that a client has this job, accepted just now."""
    key = front.keys.owned(client)
    # This process's clock: it orders a list, nothing more.
    commands = [("ZADD", key, round(1000 * time.time()), job), ("PEXPIRE", key, OWN_MS)]
    await ask(front, pipeline(front.client, commands))


def _fields(answer: Any) -> dict[bytes, bytes]:
    """Return an HGETALL of a pipeline as a map: redis-py gives pairs in a row, some of its clients a map."""
    if isinstance(answer, dict):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else {}
