"""The sizes that a Redis server accepts, as it says itself; where it may not say, its usual values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.distributed.broker.client import AsyncRedis, pipeline
from service.settings import Settings

#: `proto-max-bulk-len` of a server that was told nothing, and the least that any accepts, bytes.
USUAL_BULK, LEAST_BULK = 512 * 2**20, 2**20
_BULK, _REPLIES = "proto-max-bulk-len", "client-output-buffer-limit"
#: Part of a bulk string that frames and maps may fill: PNG of noise and msgpack add less than the rest.
FILL = 0.97


@dataclass(frozen=True, slots=True)
class Capacity:
    """`bulk`: most bytes of one value; `memory`: `maxmemory` in bytes, 0 for no limit; `policy` of eviction.

    `reply`: bytes that may wait for one client, 0 for no limit: a server cuts the connection of who asks for more.
    """

    bulk: int = USUAL_BULK
    memory: int = 0
    policy: str = "noeviction"
    reply: int = 0

    @property
    def value_limit(self) -> int:
        """Return the most bytes of a value that is taken and can be fetched again."""
        return min(self.bulk, self.reply or self.bulk)

    def answer_limit(self, settings: Settings) -> int:
        """Return the most bytes of one answer's frames and maps."""
        return min(settings.max_answer_bytes, int(FILL * self.value_limit))

    def result_limit(self, settings: Settings) -> int:
        """Return the most bytes of jobs' results: the rest of the memory is for frames that wait."""
        return min(settings.max_result_bytes, self.memory // 2) if self.memory else settings.max_result_bytes


async def capacity(client: AsyncRedis) -> Capacity:
    """Ask the server for its capacity. Raise what LOST names.

    An ACL may allow none of it; a Cluster's nodes are asked one by one and are expected to be alike.
    """
    commands = [("INFO", "memory"), ("CONFIG GET", _BULK), ("CONFIG GET", _REPLIES)]
    memory, bulk, replies = map(_one, await pipeline(client, commands))
    return Capacity(
        int(_value(bulk, _BULK) or USUAL_BULK),
        int(memory.get("maxmemory", 0)),
        str(memory.get("maxmemory_policy", "noeviction")),
        _of_normal_clients(_value(replies, _REPLIES)),
    )


def _of_normal_clients(limits: str) -> int:
    """Read "normal HARD SOFT SECONDS ...", classes in any order, in bytes; 0 where no limit is set or told."""
    words = limits.split()
    hard = words[words.index("normal") + 1 :][:1] if "normal" in words else []
    return int(hard[0]) if hard and hard[0].isdecimal() else 0


def _value(config: dict[Any, Any], name: str) -> str:
    """Read one value of CONFIG GET's answer, "" where there is none; its names and values may be bytes."""
    value = config.get(name) or config.get(name.encode()) or ""
    return value.decode() if isinstance(value, bytes) else str(value)


def _one(answer: Any) -> dict[Any, Any]:
    """Return an answer that is a map, or the first node's of a Cluster; an empty one where there is none."""
    if not isinstance(answer, dict):
        return {}
    first = next(iter(answer.values()), None)
    return first if isinstance(first, dict) else answer
