"""The sizes that a Redis server accepts, as it says itself; where it may not say, its usual values."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import redis

from service.distributed.broker.client import AsyncRedis
from service.settings import Settings

#: `proto-max-bulk-len` of a server that was told nothing, and the least that any accepts, bytes.
USUAL_BULK, LEAST_BULK = 512 * 2**20, 2**20
#: Part of a bulk string that frames and maps may fill: PNG of noise and msgpack add less than the rest.
FILL = 0.97


@dataclass(frozen=True, slots=True)
class Capacity:
    """`bulk`: most bytes of one value; `memory`: `maxmemory` in bytes, 0 for no limit; `policy` of eviction."""

    bulk: int = USUAL_BULK
    memory: int = 0
    policy: str = "noeviction"

    def answer_limit(self, settings: Settings) -> int:
        """Return the most bytes of one answer's frames and maps."""
        return min(settings.max_answer_bytes, int(FILL * self.bulk))

    def result_limit(self, settings: Settings) -> int:
        """Return the most bytes of jobs' results: the rest of the memory is for frames that wait."""
        return min(settings.max_result_bytes, self.memory // 2) if self.memory else settings.max_result_bytes


async def capacity(client: AsyncRedis) -> Capacity:
    """Ask the server for its capacity. Raise what LOST names."""
    memory: dict[str, Any] = {}
    bulk = USUAL_BULK
    # An ACL may allow neither; a Cluster's nodes are asked one by one and are expected to be alike.
    with contextlib.suppress(redis.ResponseError):
        memory = _one(await client.info("memory"))
    with contextlib.suppress(redis.ResponseError):
        config = _one(await client.config_get("proto-max-bulk-len"))
        bulk = int(config.get("proto-max-bulk-len") or config.get(b"proto-max-bulk-len") or USUAL_BULK)
    return Capacity(bulk, int(memory.get("maxmemory", 0)), str(memory.get("maxmemory_policy", "noeviction")))


def _one(answer: dict[Any, Any]) -> dict[Any, Any]:
    first = next(iter(answer.values()), None)
    return first if isinstance(first, dict) else answer
