"""The server's clock is set back by an hour while whoever holds something has died: others take it over soon.

The scripts are ours; the server is the simulation's, whose clock is given, and whose answers are compared with a real
server's elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from service.distributed.broker import scripts
from service.distributed.broker.keys import GROUP, Keys
from service.distributed.broker.scripts import ScriptCall
from simulator.service.redis_model.engine import CommandEngine

K = Keys("dmvfn")
STREAM = K.stream(0, "32x48@1")
HOUR_MS, LEASE_MS = 3_600_000, 15_000


@dataclass
class ServerWithClock:
    """A server whose wall clock is set by hand."""

    now_ms: int = 1_800_000_000_000
    engine: CommandEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = CommandEngine(lambda: self.now_ms)

    def do(self, *words: Any) -> Any:
        return self.engine.execute(words)

    def run(self, bound: ScriptCall) -> Any:
        return self.do("EVAL", bound.script.text, len(bound.keys), *bound.keys, *bound.args)


@pytest.fixture
def server() -> ServerWithClock:
    return ServerWithClock()


def lapsed(server: ServerWithClock) -> list[bytes]:
    rows = server.run(scripts.LAPSED.bind(STREAM, group=GROUP, lease_ms=LEASE_MS, most_items=8))
    return [row[1] for row in rows]


def test_items_of_a_worker_that_died_lapse_a_lease_later(server: ServerWithClock) -> None:
    entries = [server.do("XADD", STREAM, "*", "j", f"j{k}") for k in range(3)]
    server.do("XGROUP", "CREATE", STREAM, GROUP, "0")
    server.do("XREADGROUP", "GROUP", GROUP, "died", "COUNT", "2", "STREAMS", STREAM, ">")
    server.do("XREADGROUP", "GROUP", GROUP, "lives", "COUNT", "1", "STREAMS", STREAM, ">")
    server.now_ms -= HOUR_MS
    for _ in range(3):
        assert lapsed(server) == []
        server.now_ms += LEASE_MS // 3
        renewal = scripts.RENEW.bind(stream=STREAM, group=GROUP, entry=entries[2], worker="lives")
        assert server.run(renewal) == 1
    assert lapsed(server) == entries[:2]
    rows = server.do("XPENDING", STREAM, GROUP, "-", "+", "8")
    assert [(row[1], row[3]) for row in rows] == [(b"died", 1), (b"died", 1), (b"lives", 1)], (
        "nothing is held against them"
    )


def test_what_is_claimed_at_this_moment_is_left_as_it_is(server: ServerWithClock) -> None:
    server.do("XADD", STREAM, "*", "j", "j")
    server.do("XGROUP", "CREATE", STREAM, GROUP, "0")
    server.do("XREADGROUP", "GROUP", GROUP, "w", "COUNT", "1", "STREAMS", STREAM, ">")
    before = server.do("XPENDING", STREAM, GROUP, "-", "+", "8")
    assert lapsed(server) == []
    assert server.do("XPENDING", STREAM, GROUP, "-", "+", "8") == before


def test_a_webhook_that_was_due_is_sent(server: ServerWithClock) -> None:
    def taken() -> Any:
        return server.run(scripts.TAKE_WEBHOOK.bind(hooks=K.hooks, lease_ms=60_000, longest_ms=800_000))

    server.do("ZADD", K.hooks, server.now_ms + 5000, "to try again")
    assert taken() is None
    server.now_ms -= HOUR_MS
    assert taken() == b"to try again"
    assert taken() is None, "it is its sender's"


def test_a_clip_whose_maker_died_is_made_by_another(server: ServerWithClock) -> None:
    def looked_for() -> Any:
        most_ms = 60_000
        return server.run(
            scripts.CLIP_LOOK.bind(
                line=K.clip_line, leases=K.clip_leases, served=K.clip_served, busy="", most_ms=most_ms
            )
        )

    server.do("ZADD", K.clip_leases, server.now_ms + LEASE_MS, "clip holder")
    server.now_ms -= HOUR_MS
    assert looked_for() is None
    server.now_ms += 60_000
    assert looked_for() == [b"clip", b"holder"]
