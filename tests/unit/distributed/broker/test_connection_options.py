"""Options of Redis' URL that the service cannot live with, and errors that a setting mends."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import redis

from service.distributed.broker.connection_options import check, explain
from service.settings import Settings, SettingsError
from tests.unit.distributed.conftest import bench_of, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.other_ways import free_port
from tests.unit.distributed.servers import binaries, binary, running

LOCAL = Settings(lease_ms=600, shutdown_grace_s=5.0)


@pytest.mark.parametrize(
    ("url", "changes", "part"),
    [
        ("redis://h?decode_responses=True", {}, "decode_responses"),
        ("redis://h?legacy_responses=False", {}, "legacy_responses"),
        ("redis://h?max_connections=1", {}, "max_connections"),
        ("redis://h?encoding=ascii", {}, "encoding"),
        ("redis://h?socket_timeout=1", {}, "socket_timeout must be above 2 s"),
        ("redis://h/1", {"redis_cluster": True}, "databases"),
        ("redis://h?db=1", {"redis_cluster": True}, "databases"),
        ("unix:///run/redis.sock", {"redis_cluster": True}, "unix socket"),
        ("redis://h?retry_on_timeout=1", {"redis_cluster": True}, "of a Cluster"),
        ("redis://h", {"redis_cluster": True, "redis_sentinels": ("h:1",)}, "SENTINELS are both set"),
    ],
)
def test_an_option_that_the_service_cannot_live_with_stops_the_start(
    url: str, changes: dict[str, Any], part: str
) -> None:
    """One made it never ready, with a traceback each second; another ended it with one."""
    with pytest.raises(SettingsError, match=part) as caught:
        check(dataclasses.replace(LOCAL, redis_url=url, **changes))
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("redis://h:1/3?protocol=2&client_name=x&socket_keepalive=1&health_check_interval=5&socket_timeout=10", {}),
        ("redis://dmvfn?socket_timeout=10&protocol=2", {"redis_sentinels": ("h:1",)}),
        ("redis://h:1/0?protocol=2", {"redis_cluster": True}),
    ],
)
def test_other_options_are_taken(url: str, changes: dict[str, Any]) -> None:
    check(dataclasses.replace(LOCAL, redis_url=url, **changes))


async def _first_warning(settings: Settings, caplog: pytest.LogCaptureFixture) -> str:
    """What a front end logs of a server that it cannot use; it goes on trying, and ends without an error."""
    async with bench_of(settings) as bench:
        await until(lambda: any("redis is away" in record.message for record in caplog.records))
        assert bench.front.readiness().reason == "queue_lost"
    return next(record.message for record in caplog.records if "redis is away" in record.message)


async def test_a_server_of_no_cluster_says_which_setting_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with running(binary(), "--port", str(port := free_port())):
        settings = dataclasses.replace(LOCAL, redis_url=f"redis://127.0.0.1:{port}", redis_cluster=True)
        assert "unset DMVFN_REDIS_CLUSTER" in await _first_warning(settings, caplog)


async def test_a_server_without_hello_says_which_option_helps(caplog: pytest.LogCaptureFixture) -> None:
    """As proxies before Redis are, and managed ones that rename commands."""
    program = binaries().get("redis-6.2", binary())
    with running(program, "--rename-command", "HELLO", "", protocol=2) as server:
        settings = dataclasses.replace(LOCAL, redis_url=server.url)
        assert "?protocol=2" in await _first_warning(settings, caplog)
        settings = dataclasses.replace(settings, redis_url=f"{server.url}?protocol=2")
        async with bench_of(settings) as bench, bench.work(Adder()):
            assert bench.front.readiness().ready


def test_a_node_of_a_cluster_says_which_setting_is_missing() -> None:
    assert "DMVFN_REDIS_CLUSTER=1" in explain(redis.exceptions.MovedError("14018 127.0.0.1:42291"))
    assert explain(redis.ConnectionError("Connection refused")) == "Connection refused"
