"""A real server and the model give the same answers: to drawn commands, and to all that a simulated fleet asked."""

from __future__ import annotations

import dataclasses
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from service.distributed.frontend import queue_client
from service.distributed.worker import claims, due_work
from simulator.service.redis_model.engine import CommandEngine
from simulator.service.redis_model.store import RedisRefusal
from simulator.service.run import Plan, Simulation
from tests.unit.distributed.servers import NEVER, running

ENTRY_ID = re.compile(rb"\b\d{13}-\d+\b")
#: Milliseconds and entries' ids of this century, which differ between two servers; shorter numbers do not.
#: Now, and ten years on: where background work stands in the index.
MOMENT = re.compile(rb"\b(1[5-9]|2[0-2])\d{11}\b(-\d+)?")
#: Commands whose answers are times, or tell them.
TIMES = {"TIME", "PTTL", "TTL", "INFO"}
#: How servers differ in words, or in what they add.
UNEQUAL = {"CONFIG GET", "ACL DRYRUN"}
#: Commands whose answers have no order.
UNORDERED = {"SMEMBERS", "HKEYS", "HVALS"}
KEYS = ("a", "b", "c")
#: A lease, and a sign of life, longer than any replay.
LONG_MS = 1_000_000


class RealServer:
    """Runs commands on a real server and returns its bare RESP2 answers."""

    def __init__(self, socket: str) -> None:
        self._client = redis.Redis(unix_socket_path=socket, protocol=2, retry=NEVER)
        self._client.response_callbacks.clear()

    def execute(self, words: Sequence[Any]) -> Any:
        try:
            return self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis has no types there
        except redis.ResponseError as error:
            return error

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def real() -> Iterator[RealServer]:
    with running() as server:
        side = RealServer(str(server.socket))
        yield side
        side.close()


def drawn_commands(seed: int, count: int) -> Iterator[tuple[str, ...]]:
    """Draw commands on three keys, with arguments that are right, wrong, or right for another kind of key."""
    rng = random.Random(seed)

    def number() -> str:
        return str(rng.choice((-3, -1, 0, 1, 2, 5, 10**6)))

    def field() -> str:
        return rng.choice("xyz")

    shapes: tuple[Any, ...] = (
        lambda k: ("SET", k, field()), lambda k: ("GET", k), lambda k: ("STRLEN", k), lambda k: ("MGET", *KEYS),
        lambda k: ("EXISTS", *KEYS), lambda k: ("UNLINK", k), lambda k: ("DEL", k), lambda k: ("PERSIST", k),
        lambda k: ("PEXPIRE", k, "900000"), lambda k: ("RENAME", k, rng.choice(KEYS)),
        lambda k: ("HSET", k, field(), number(), field(), field()), lambda k: ("HSETNX", k, field(), number()),
        lambda k: ("HGET", k, field()), lambda k: ("HMGET", k, "x", "y", "q"), lambda k: ("HDEL", k, field(), "q"),
        lambda k: ("HINCRBY", k, field(), number()), lambda k: ("HLEN", k), lambda k: ("HEXISTS", k, field()),
        lambda k: ("SADD", k, field(), field()), lambda k: ("SREM", k, field(), "q"), lambda k: ("SCARD", k),
        lambda k: ("ZADD", k, number(), field(), "2.5", field()), lambda k: ("ZADD", k, "NX", number(), field()),
        lambda k: ("ZREM", k, field()), lambda k: ("ZSCORE", k, field()), lambda k: ("ZMSCORE", k, "x", "q"),
        lambda k: ("ZCARD", k), lambda k: ("ZCOUNT", k, "(0", "+inf"), lambda k: ("ZRANGE", k, number(), number()),
        lambda k: ("ZRANGEBYSCORE", k, "-inf", number(), "LIMIT", "0", "2"),
        lambda k: ("ZRANGEBYSCORE", k, "-inf", "(2"),
        lambda k: ("ZREMRANGEBYSCORE", k, "-inf", number()), lambda k: ("LPUSH", k, field(), field()),
        lambda k: ("LTRIM", k, number(), number()), lambda k: ("LLEN", k), lambda k: ("XLEN", k),
        lambda k: ("XADD", k, "*", "j", field()), lambda k: ("XGROUP", "CREATE", k, "g", "0", "MKSTREAM"),
        lambda k: ("XGROUP", "CREATE", k, "g", "0"), lambda k: ("XRANGE", k, "-", "+", "COUNT", "2"),
        lambda k: ("XREVRANGE", k, "+", "-", "COUNT", "1"), lambda k: ("XPENDING", k, "g"),
        lambda k: ("XPENDING", k, "g", "IDLE", "900000", "-", "+", "5"), lambda k: ("XDEL", k, "1-1"),
        lambda k: ("XREADGROUP", "GROUP", "g", field(), "COUNT", "2", "STREAMS", k, ">"),
    )  # fmt: skip
    for _ in range(count):
        yield rng.choice(shapes)(rng.choice(KEYS))


def bare(answer: Any, words: Sequence[Any]) -> Any:
    """Return an answer without what differs between any two servers: moments, idle times, newer fields."""
    if isinstance(answer, (redis.ResponseError, RedisRefusal)):
        return "error", str(answer).split(" ")[0] if str(answer).isupper() else ""
    if isinstance(answer, list):
        items = answer
        if words[0] == "HGETALL":
            items = sorted(zip(answer[::2], answer[1::2], strict=True))
            return [(name, bare(value, words)) for name, value in items]
        if words[0] in UNORDERED:
            items = sorted(answer)
        if words[0] == "XPENDING" and len(answer) == 4 and isinstance(answer[2], int):
            items = [answer[0], answer[1], "idle", answer[3]]
        return [bare(item, words) for item in items]
    if isinstance(answer, bytes):
        return MOMENT.sub(b"moment", answer)
    return "moment" if isinstance(answer, int) and answer > 10**12 else answer


def test_drawn_commands_are_answered_as_by_a_real_server(real: RealServer) -> None:
    model = CommandEngine(lambda: int(time.time() * 1000))
    real.execute(("FLUSHALL",))
    for words in drawn_commands(1, 1500):
        try:
            answer = model.execute(words)
        except RedisRefusal as refusal:
            answer = refusal
        assert bare(answer, words) == bare(real.execute(words), words), words


#: By stream, where that is one of replies, and the recorded id: two streams may have the same in one millisecond.
Ids = dict[tuple[bytes, bytes], bytes]


def replies_of(words: Sequence[Any]) -> bytes:
    """Return the stream of replies whose entries this command names; nothing for other commands."""
    names = [word.encode() if isinstance(word, str) else word for word in words if isinstance(word, str | bytes)]
    return next((name for name in names if b":r:" in name), b"") if words[0] in ("XDEL", "XREAD") else b""


def translated(value: Any, ids: Ids, later_ms: int, stream: bytes = b"") -> Any:
    """Write a recorded value with the ids that the other server gave, and moments so much later."""
    if isinstance(value, int) and value > 10**12:
        return value + later_ms
    data = value.encode() if isinstance(value, str) else value
    return ENTRY_ID.sub(lambda m: ids.get((stream, m[0]), m[0]), data) if isinstance(data, bytes) else data


def learn(recorded: Any, answer: Any, ids: Ids, stream: bytes = b"") -> None:
    """Remember which of the other server's ids stand where the recorded ones stood."""
    if isinstance(recorded, list) and isinstance(answer, list):
        for one, other in zip(recorded, answer, strict=False):
            learn(one, other, ids, stream)
    elif isinstance(recorded, bytes) and isinstance(answer, bytes) and ENTRY_ID.fullmatch(recorded):
        ids[stream, recorded] = answer


def test_all_that_a_fleet_asked_is_answered_as_by_a_real_server(
    real: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine, nothing may expire on the real server that had not in the simulation.
    monkeypatch.setattr(queue_client, "FRONT_MS", LONG_MS)
    monkeypatch.setattr(due_work, "IDLE_MS", LONG_MS)
    monkeypatch.setattr(claims, "IDLE_MS", LONG_MS)
    plan = Plan(3, workers=2, fronts=1, kinds=("worker drained",), faults=1, jobs=4, calls=6, streams=0,
                max_batch=4, device_rows=4)  # fmt: skip
    simulation = Simulation(dataclasses.replace(plan, lease_ms=LONG_MS))
    simulated_ms = simulation.now_ms()
    recording = simulation.record()
    assert simulation.run().verdict.breaches == []
    assert len(recording) > 600
    assert sum(words[0] == "EVALSHA" for words, _ in recording) > 150

    real.execute(("FLUSHALL",))
    real.execute(("SCRIPT", "FLUSH"))  # as the simulated one began: without any
    ids: Ids = {}
    later_ms = int(time.time() * 1000) - simulated_ms
    for words, recorded in recording:
        if words[0] in UNEQUAL:
            continue
        stream = replies_of(words)
        asked = [translated(word, ids, later_ms, stream) for word in words]
        if recorded is None:  # what waited in vain need not take as long again
            if asked[0] == b"BLPOP":
                asked[-1] = 0.001
            if asked[0] == b"XREAD":
                asked[asked.index(b"BLOCK") + 1] = 1
        # What a fleet waited for is there when it is asked for again.
        answer = real.execute(asked)
        learn(recorded, answer, ids, stream)
        if words[0] not in TIMES:
            assert bare(recorded, words) == bare(answer, words), words


def test_a_script_that_fails_says_so_and_keeps_what_it_wrote() -> None:
    model = CommandEngine(lambda: 1_700_000_000_000)
    with pytest.raises(RedisRefusal, match="WRONGTYPE"):
        model.execute(("EVAL", "redis.call('SET', KEYS[1], 'x') return redis.call('HGET', KEYS[1], 'f')", 1, "a"))
    assert model.execute(("GET", "a")) == b"x"
    assert model.execute(("EVAL", "return redis.pcall('HGET', KEYS[1], 'f').err", 1, "a")).startswith(b"WRONGTYPE")
