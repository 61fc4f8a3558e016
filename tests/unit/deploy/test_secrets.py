"""The Secrets that scripts/deploy-secrets makes: valid, fresh each time, and right for a real Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import redis

from service.settings import Settings
from tests.unit.deploy.manifests import DEPLOY, ROOT, overlay
from tests.unit.distributed.servers import NEVER, Server, binary


def _made(*arguments: str) -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets"), *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return {item["metadata"]["name"]: item for item in json.loads(printed)["items"]}


def test_each_is_a_valid_secret_and_no_two_runs_are_alike() -> None:
    first, second = _made("--client", "web"), _made("--client", "web")
    for manifest in first.values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    assert all(first[name]["stringData"] != second[name]["stringData"] for name in first)


def test_the_settings_in_it_can_be_used() -> None:
    settings = Settings.from_env(_made("--client", "web", "--client", "batch")["dmvfn-secrets"]["stringData"])
    assert [name for name, _ in settings.api_keys] == ["web", "batch"]
    assert settings.redis_url == "redis://dmvfn-redis:6379/0"
    assert settings.redis_username == "dmvfn"
    assert len(settings.redis_password) >= 32


def test_every_secret_that_a_manifest_needs_is_made() -> None:
    text = json.dumps(overlay("redis-scale-out"))
    assert all(f'"{name}"' in text for name in _made())


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Server, dict[str, dict[str, Any]]]]:
    """A real server with the deployed configuration and ACL."""
    made = _made()
    conf = DEPLOY / "kubernetes" / "components" / "redis" / "redis.conf"
    server = Server(binary())
    acl = server.folder / "users.acl"
    acl.write_text(made["dmvfn-redis-acl"]["stringData"]["users.acl"])
    lines = [line.split(" ", 1) for line in conf.read_text().splitlines() if line and not line.startswith("#")]
    server.options = (*(word for key, value in lines for word in (f"--{key}", *value.replace('"', "").split())),)
    password = made["dmvfn-secrets"]["stringData"]["DMVFN_REDIS_PASSWORD"]
    server.options += ("--aclfile", str(acl))
    # Looking at it needs the password, too; a class of its own for that one server would say no more.
    server.client = lambda: redis.Redis(  # type: ignore[method-assign]
        unix_socket_path=str(server.socket), username="dmvfn", password=password, retry=NEVER
    )
    try:
        yield server.start(), made
    finally:
        server.remove()


def test_the_service_may_use_its_queue_and_nothing_else(guarded: tuple[Server, dict[str, dict[str, Any]]]) -> None:
    client: Any = guarded[0].client()
    with client:
        client.xadd("{dmvfn}:s:0:32x48@1", {"id": "1"})
        assert client.eval("return redis.call('XLEN', KEYS[1])", 1, "{dmvfn}:s:0:32x48@1") == 1
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        for forbidden in (("SET", "other", "1"), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", "1")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*forbidden)


def test_nobody_gets_in_without_a_password(guarded: tuple[Server, dict[str, dict[str, Any]]]) -> None:
    with redis.Redis(unix_socket_path=str(guarded[0].socket)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_the_scaler_may_measure_and_not_read(guarded: tuple[Server, dict[str, dict[str, Any]]]) -> None:
    server, made = guarded
    given = made["dmvfn-redis-scaler"]["stringData"]
    with redis.Redis(unix_socket_path=str(server.socket), **given) as scaler:
        assert scaler.xlen("{dmvfn}:s:0:64x64@1") == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            scaler.xrange("{dmvfn}:s:0:64x64@1")
