"""What a Redis that may lose jobs is said to be, on a real server: in the log once, in readiness, in the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.app_state import AppState
from service.backends import DrainingEngine
from service.distributed.broker.server_check import ADVICE, ConfigProblem, ServerCheck, problems
from service.distributed.frontend.backend import FrontendEngine
from service.distributed.worker.worker import Worker
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.conftest import metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import SHIPPED_CONF, Server, binary, running, shipped_acl

FINE = {"redis_version": "7.2.5", "aof_enabled": 1, "maxmemory": 1, "maxmemory_policy": "noeviction"}
#: What makes each problem on a sound server; `fsync_off` needs the file to be on, and so stands alone.
SPOIL = {
    ConfigProblem.AOF_OFF: ("appendonly", "no"),
    ConfigProblem.FSYNC_OFF: ("appendfsync", "no"),
    ConfigProblem.EVICTION: ("maxmemory-policy", "allkeys-lru"),
}


@pytest.fixture
def sound() -> Any:
    """A server with the shipped files."""
    with running(binary(), str(SHIPPED_CONF), acl=shipped_acl()) as server:
        yield server


@asynccontextmanager
async def front_end(server: Server) -> AsyncIterator[tuple[FrontendEngine, Metrics]]:
    """What `serve` runs, and its metrics."""
    instruments = metrics()
    remote = FrontendEngine(Settings(engine="redis", redis_url=server.url), instruments)
    starting = asyncio.create_task(remote.start())
    try:
        await until(lambda: remote.readiness().reason == "starting")
        yield remote, instruments
    finally:
        starting.cancel()
        await remote.close()


def series(instruments: Metrics) -> dict[str, float]:
    """Problem -> value, as scraped."""
    (family,) = [f for f in instruments.registry.collect() if f.name == "dmvfn_redis_config_problems"]
    return {sample.labels["problem"]: sample.value for sample in family.samples}


async def test_a_sound_server_is_not_warned_of(sound: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with front_end(sound) as (remote, instruments):
        assert remote.readiness().warnings == ()
        assert series(instruments) == dict.fromkeys(ConfigProblem, 0.0)
        assert remote.jobs.durability == "fsync:everysec"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("problem", SPOIL)
async def test_each_problem_is_told_once_in_the_log_and_always_elsewhere(
    problem: ConfigProblem, sound: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound.client().config_set(*SPOIL[problem])
    monkeypatch.setattr(
        "service.distributed.broker.server_check.ASK_AGAIN_S", 0.0
    )  # every beat asks, so that it could warn again
    monkeypatch.setattr("service.distributed.frontend.queue_client.PULSE_S", 0.02)
    async with front_end(sound) as (remote, instruments):
        await asyncio.sleep(0.2)
        codecs = Codecs(FrameLimits.of(Settings()), 1, instruments)
        app = build(AppState(Settings(), DrainingEngine(remote), codecs, instruments))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as http:
            body = (await http.get("/healthz/ready")).json()
        codecs.close()
        assert body["warnings"] == [f"{problem}: {ADVICE[problem]}"]
        assert series(instruments) == dict.fromkeys(ConfigProblem, 0.0) | {problem: 1.0}
        assert remote.jobs.durability == ("fsync:everysec" if problem is ConfigProblem.EVICTION else "none")
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warned] == [f"redis: {ADVICE[problem]}"]


async def test_a_server_that_comes_back_otherwise_is_asked_again(sound: Server) -> None:
    async with front_end(sound) as (remote, _):
        assert remote.readiness().warnings == ()
        sound.stop()
        await until(lambda: remote.readiness().reason == "queue_lost")
        sound.options += ("--maxmemory-policy", "allkeys-lru")
        sound.start()
        await until(lambda: remote.readiness().reason == "starting")
        assert [text.partition(":")[0] for text in remote.readiness().warnings] == ["eviction"]


async def test_a_worker_checks_too_and_works_on(sound: Server) -> None:
    sound.client().config_set("maxmemory-policy", "allkeys-lru")
    worker = Worker(Settings(redis_url=sound.url, lease_ms=600), Adder(), metrics())
    task = asyncio.create_task(worker.run())
    await until(lambda: bool(worker.server.warnings))
    worker.stop()
    assert await asyncio.wait_for(task, 60)
    assert [text.partition(":")[0] for text in worker.server.warnings] == ["eviction"]


async def test_what_a_server_does_not_tell_is_unknown_and_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    """As managed servers do: no CONFIG, no ACL."""
    acl = shipped_acl().replace("+config|get +acl|dryrun", "")
    with running(binary(), str(SHIPPED_CONF), acl=acl) as server, caplog.at_level(logging.WARNING):
        async with front_end(server) as (remote, instruments):
            assert remote.readiness().warnings == ()
            assert ConfigProblem.FSYNC_OFF not in series(instruments)
            assert remote.jobs.durability is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("info", "fsync", "replays", "expected"),
    [
        ({}, None, [], dict.fromkeys(ConfigProblem)),
        (FINE, "everysec", [b"OK"], dict.fromkeys(ConfigProblem, False)),
        (FINE | {"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, "no", [b"OK"], {ConfigProblem.FSYNC_OFF: True}),
        (FINE, "always", [b"OK", b"User default has no permissions"], {ConfigProblem.ACL_REPLAY: True}),
        (FINE | {"redis_version": "6.2.14"}, "always", [Exception()], {}),
        (FINE | {"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "always", [b"no"], {}),
        (
            FINE | {"redis_version": "7.2.4", "valkey_version": "8.1.8"},
            "always",
            [b"no"],
            {ConfigProblem.ACL_REPLAY: True},
        ),
        (FINE, "always", [Exception()], {ConfigProblem.ACL_REPLAY: None}),
        (FINE | {"redis_version": "6.0.16"}, "always", [Exception()], {ConfigProblem.TOO_OLD: True}),
        (FINE | {"redis_version": "5.0.6"}, "always", [Exception()], {ConfigProblem.TOO_OLD: True}),
        (
            FINE | {"redis_version": "vNext"},
            "always",
            [b"OK"],
            {ConfigProblem.TOO_OLD: None, ConfigProblem.ACL_REPLAY: None},
        ),
        (FINE | {"aof_enabled": 0}, "no", [b"OK"], {ConfigProblem.AOF_OFF: True}),
    ],
)
def test_what_answers_mean(
    info: dict[str, Any], fsync: str | None, replays: list[Any], expected: dict[ConfigProblem, bool | None]
) -> None:
    assert problems(info, fsync, replays) == dict.fromkeys(ConfigProblem, False) | expected


def test_before_the_first_answer_nothing_is_claimed() -> None:
    check = ServerCheck("q")
    assert (check.warnings, check.durability, check.gauges()) == ((), None, [])
