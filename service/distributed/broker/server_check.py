"""Checks that the Redis server keeps accepted jobs and knows what the queue asks; its problems are logged and shown.

It is asked once for each connection. Uses what the shipped ACL user may ask (INFO, CONFIG GET, ACL DRYRUN). What a
server refuses to say, as managed ones do, is unknown and no problem. Knows nothing of jobs.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Mapping
from typing import Any

import redis
import redis.asyncio.cluster

from service.distributed.broker.client import LOST, AsyncRedis, pipeline
from service.distributed.broker.keys import Keys

log = logging.getLogger(__name__)

#: Seconds after which a server is asked again, though it was never away: CONFIG SET and ACL SETUSER need no restart.
ASK_AGAIN_S = 60.0


#: The oldest Redis whose commands the scripts use.
LEAST_VERSION = (6, 2)


class ConfigProblem(enum.StrEnum):
    """What loses accepted jobs, or leaves them undone; the closed set of the metric's labels."""

    AOF_OFF = "aof_off"
    FSYNC_OFF = "fsync_off"
    EVICTION = "eviction"
    ACL_REPLAY = "acl_replay"
    TOO_OLD = "too_old"


ADVICE = {
    ConfigProblem.AOF_OFF: "a restart of Redis loses every accepted job: set appendonly yes",
    ConfigProblem.FSYNC_OFF: "a power cut loses what the system has not yet written: set everysec or always",
    ConfigProblem.EVICTION: (
        "Redis may evict jobs, or their results, for room, and with an allkeys policy no job is accepted: set "
        "maxmemory-policy noeviction"
    ),
    ConfigProblem.ACL_REPLAY: (
        "a restart of Redis drops transactions and scripts from its append-only file, and with them accepted jobs: "
        "give the user `default` its rights back, `user default off ~* &* +@all` (docs/redis.md)"
    ),
    ConfigProblem.TOO_OLD: "nothing that is queued is ever done: the queue needs commands of Redis 6.2",
}

#: What an append-only file of ours holds. Redis 7 and Valkey 8 replay it as the user `default`, and check its rights.
#: KEY stands for a key of the queue.
REPLAYED = (
    *("SET KEY 1", "RENAME KEY KEY", "DEL KEY", "UNLINK KEY", "PERSIST KEY", "PEXPIRE KEY 1", "PEXPIREAT KEY 1"),
    *("HSET KEY f 1", "HDEL KEY f", "HINCRBY KEY f 1", "SADD KEY m", "SREM KEY m", "ZADD KEY 1 m", "ZREM KEY m"),
    *("LPUSH KEY 1", "LTRIM KEY 0 1", "XADD KEY * f 1", "XDEL KEY 0-1", "XACK KEY g 0-1", "XCLAIM KEY g c 0 0-1"),
    *("XGROUP CREATE KEY g 0", "XGROUP SETID KEY g 0", "XSETID KEY 0-1"),
)


class ServerCheck:
    """The last known configuration of one server; `look` from a loop that reconnects, `away` when it is lost."""

    def __init__(self, queue: str) -> None:
        self._keys = Keys(queue)
        self._queue = queue
        self._ask_at = 0.0
        self.problems: dict[ConfigProblem, bool | None] = dict.fromkeys(ConfigProblem)  #: None: unknown
        self.fsync: str | None = None  #: always, everysec, no, or None: unknown
        self.evicts_jobs = False  #: whatever the queue holds may be evicted, not only what would expire anyway

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each problem there is."""
        return tuple(f"{problem}: {ADVICE[problem]}" for problem, there in self.problems.items() if there)

    @property
    def durability(self) -> str | None:
        """Name how accepted jobs survive a power cut: "fsync:always", "fsync:everysec", "none"; None: unknown."""
        if self.problems[ConfigProblem.AOF_OFF] or self.fsync == "no":
            return "none"
        return f"fsync:{self.fsync}" if self.fsync and self.problems[ConfigProblem.AOF_OFF] is False else None

    @property
    def is_due(self) -> bool:
        """Tell whether the next `look` asks the server."""
        return time.monotonic() >= self._ask_at

    def away(self) -> None:
        """Forget when the server was asked: the connection was lost, what answers next may be another server."""
        self._ask_at = 0.0

    async def look(self, client: AsyncRedis) -> None:
        """Ask the server, unless it was asked within ASK_AGAIN_S; warn of new problems. Raises what LOST names."""
        if not self.is_due:
            return
        commands: list[tuple[str, ...]] = [("INFO",), ("CONFIG GET", "appendfsync")]
        key = self._keys.load
        words = [[key if word == "KEY" else word for word in command.split()] for command in REPLAYED]
        commands += [("ACL DRYRUN", "default", *command) for command in words]
        info, fsync, *replays = await _answers(client, key, commands)
        self.fsync = _word(fsync, "appendfsync")
        facts: Mapping[str, Any] = info if isinstance(info, dict) else {}
        news = problems(facts, self.fsync, replays)
        self.evicts_jobs = bool(news[ConfigProblem.EVICTION]) and str(facts["maxmemory_policy"]).startswith("allkeys")
        for problem, there in news.items():
            if there and not self.problems[problem]:
                log.warning("redis: %s", ADVICE[problem], extra={"problem": problem.value})
            if there is False and self.problems[problem]:
                log.info("redis: no longer %s", problem)
        self.problems = news
        self._ask_at = time.monotonic() + ASK_AGAIN_S

    def gauges(self) -> list[tuple[str, str, dict[str, str], float]]:
        """Return series for `Metrics.watch`: 1 there, 0 not; a problem that the server does not tell of has none."""
        text = "1 where Redis, as it is, can lose accepted jobs or leave them undone."
        states = [(problem, there) for problem, there in self.problems.items() if there is not None]
        return [
            ("redis_config_problems", text, {"queue": self._queue, "problem": problem.value}, float(there))
            for problem, there in states
        ]


def problems(info: Mapping[str, Any], fsync: str | None, replays: list[Any]) -> dict[ConfigProblem, bool | None]:
    """Judge each problem by the answers of INFO, CONFIG GET appendfsync and ACL DRYRUN; None where they do not say."""
    aof, policy = info.get("aof_enabled"), info.get("maxmemory_policy")
    aof_off = None if aof is None else not int(aof)
    evicts = None if policy is None else policy != "noeviction" and int(info.get("maxmemory", 1)) > 0
    return {
        ConfigProblem.AOF_OFF: aof_off,
        ConfigProblem.FSYNC_OFF: None if fsync is None or aof_off is None else fsync == "no" and not aof_off,
        ConfigProblem.EVICTION: evicts,
        ConfigProblem.ACL_REPLAY: _drops(info, replays),
        ConfigProblem.TOO_OLD: None if (number := _version(info)) is None else number < LEAST_VERSION,
    }


def _drops(info: Mapping[str, Any], replays: list[Any]) -> bool | None:
    """Tell whether a replay as the user `default` would drop something. Only some servers check its rights."""
    number = _version(info)
    if number is None:
        return None
    # 6.2 does not check, and has no ACL DRYRUN; Valkey 9.1 was mended (both seen:
    # tests/unit/distributed/test_restart.py).
    if number < (7, 0) or ("valkey_version" in info and number >= (9, 1)):
        return False
    if any(isinstance(answer, Exception) for answer in replays) or not replays:
        return None
    return any(answer not in (b"OK", "OK") for answer in replays)


def _version(info: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Read the first two numbers of the server's version, Valkey's own where it is one; None where it tells none."""
    version = str(info.get("valkey_version") or info.get("redis_version") or "")
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) or None


async def _answers(client: AsyncRedis, key: str, commands: list[tuple[str, ...]]) -> list[Any]:
    """Return the answers, errors among them, of the server of `key`; in one round trip where there is one server."""
    if not isinstance(client, redis.asyncio.cluster.RedisCluster):
        return await pipeline(client, commands)
    answers: list[Any] = []
    await client.initialize()
    node = client.get_node_from_key(key)
    for command in commands:
        try:
            answers.append(await client.execute_command(*command, target_nodes=node))
        except LOST:
            raise
        except redis.RedisError as error:
            answers.append(error)
    return answers


def _word(answer: Any, name: str) -> str | None:
    """Read one value of CONFIG GET's answer, whatever redis-py made of it."""
    if not isinstance(answer, dict):
        return None
    value = answer.get(name, answer.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value
