"""The Secrets that scripts/deploy-secrets makes: valid, fresh each time, and right for a real Redis."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml

from service.settings import Settings
from tests.unit.deploy.manifests import DEPLOY, ROOT, overlay
from tests.unit.distributed.servers import NEVER, Server, binary


def _made(*arguments: str) -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets"), *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
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


def test_the_documents_name_every_secret_and_every_key() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    table = text[text.index("### Secrets") : text.index("## Upgrade")]
    for name, manifest in _made().items():
        assert f"`{name}`" in table
        assert [key for key in manifest["stringData"] if f"`{key}`" not in table] == []


def _stored(*clients: str) -> dict[str, Any]:
    """The Secret as the API server gives it back: encoded, with its own bookkeeping."""
    manifest = _made(*(word for client in clients for word in ("--client", client)))["dmvfn-secrets"]
    data = {key: base64.b64encode(value.encode()).decode() for key, value in manifest["stringData"].items()}
    metadata = manifest["metadata"] | {"uid": "1", "resourceVersion": "7", "annotations": {"last-applied": "{}"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _change(secret: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets"), *arguments]
    return subprocess.run(command, input=json.dumps(secret), capture_output=True, text=True, timeout=60, check=False)


def _keys(secret: dict[str, Any]) -> dict[str, str]:
    pairs = base64.b64decode(secret["data"]["DMVFN_API_KEYS"]).decode().split(",")
    return dict(pair.split(":") for pair in pairs if pair)


def test_a_client_comes_and_goes_and_nobody_elses_key_changes() -> None:
    stored = _stored("web", "batch")
    run = _change(stored, "--add-client", "mobile", "--remove-client", "batch")
    changed = json.loads(run.stdout)
    kubernetes_validate.validate(changed, "1.37", strict=True)
    assert set(changed["metadata"]) == {"name", "namespace", "labels"}, "the server's bookkeeping would make a conflict"
    before, after = _keys(stored), _keys(changed)
    assert set(after) == {"web", "mobile"}
    assert after["web"] == before["web"]
    others = {key: value for key, value in stored["data"].items() if key != "DMVFN_API_KEYS"}
    assert {key: changed["data"][key] for key in others} == others
    assert run.stderr == ""


@pytest.mark.parametrize("arguments", [("--add-client", "web"), ("--remove-client", "nobody")])
def test_a_change_that_makes_no_sense_changes_nothing(arguments: tuple[str, ...]) -> None:
    run = _change(_stored("web"), *arguments)
    assert (run.returncode, run.stdout) == (1, "")
    assert arguments[1] in run.stderr


def test_keys_in_tables_are_left_to_their_editor() -> None:
    stored = _stored("web")
    table = '[web]\nkey = "a-key-of-the-web"'
    stored["data"]["DMVFN_API_KEYS"] = base64.b64encode(table.encode()).decode()
    run = _change(stored, "--add-client", "mobile")
    assert (run.returncode, run.stdout, "a-key-of" in run.stderr) == (1, "", False)
    assert "python -m service keys new" in run.stderr


def test_the_first_client_is_added_to_none() -> None:
    assert set(_keys(json.loads(_change(_stored(), "--add-client", "web").stdout))) == {"web"}


def _both() -> tuple[dict[str, Any], dict[str, Any]]:
    """The two Secrets with Redis' password in them, as the API server gives them back."""
    service = _stored("web")
    manifest = _made()["dmvfn-redis-acl"]
    password = base64.b64decode(service["data"]["DMVFN_REDIS_PASSWORD"])
    acl = re.sub(
        r"(user dmvfn on) #\w+", rf"\1 #{hashlib.sha256(password).hexdigest()}", manifest["stringData"]["users.acl"]
    )
    data = {key: base64.b64encode(value.encode()).decode() for key, value in manifest["stringData"].items()}
    data["users.acl"] = base64.b64encode(acl.encode()).decode()
    metadata = manifest["metadata"] | {"uid": "2", "resourceVersion": "8"}
    return service, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def test_a_new_password_is_added_and_the_old_one_taken_away_and_nothing_else_changes() -> None:
    stored = _both()
    for how, count in (("new", 2), ("new", 3), ("single", 1)):
        run = _change({"kind": "List", "items": list(stored)}, "--redis-password", how)
        changed = json.loads(run.stdout)["items"]
        for before, after in zip(stored, changed, strict=True):
            kubernetes_validate.validate(after, "1.37", strict=True)
            assert set(after["metadata"]) == {"name", "namespace", "labels"}
            differing = {key for key in after["data"] if after["data"][key] != before["data"].get(key)}
            assert differing <= {"DMVFN_REDIS_PASSWORD", "users.acl"}
        password = base64.b64decode(changed[0]["data"]["DMVFN_REDIS_PASSWORD"])
        acl = base64.b64decode(changed[1]["data"]["users.acl"]).decode()
        digests = re.findall(r"#(\w+)", acl.splitlines()[1])
        assert (len(digests), digests[-1]) == (count, hashlib.sha256(password).hexdigest())
        assert (changed[0]["data"] == stored[0]["data"]) is (how == "single")
        assert run.stderr == ""
        stored = (changed[0], changed[1])


def test_a_password_that_the_acl_does_not_know_is_left_to_its_operator() -> None:
    service, acl = _both()
    service["data"]["DMVFN_REDIS_PASSWORD"] = base64.b64encode(b"another").decode()
    run = _change({"items": [service, acl]}, "--redis-password", "new")
    assert (run.returncode, run.stdout) == (1, "")
    assert "no user dmvfn with the password" in run.stderr
    run = _change(service, "--redis-password", "single")
    assert (run.returncode, run.stdout, "must hold the Secrets" in run.stderr) == (1, "", True)
    run = _change(service, "--redis-password", "new", "--add-client", "x")
    assert (run.returncode, run.stdout, "one at a time" in run.stderr) == (2, "", True)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("dmvfn-redis:6380", "dmvfn-redis:6380"),
        ("redis.example.com:6378", "redis.example.com:6378"),
        ("10.0.0.7", "10.0.0.7:6379"),
        ("fd00::7", "[fd00::7]:6379"),
        ("[fd00::7]:6380", "[fd00::7]:6380"),
    ],
)
def test_a_redis_elsewhere_is_named_as_its_operator_does(host: str, address: str) -> None:
    made = _made("--redis-host", host)
    settings = Settings.from_env(made["dmvfn-secrets"]["stringData"])
    assert settings.redis_url == f"redis://{address}/0"


@pytest.mark.parametrize(
    "words",
    [
        ("--redis-host", "redis://h"),
        ("--redis-host", "u:p@h"),
        ("--redis-host", "h:0"),
        ("--queue", "q" * 65),  # the service takes 64
        ("--queue", "a/b"),
        ("--client", "web:1"),
    ],
)
def test_a_name_that_nobody_could_use_is_refused(words: tuple[str, str]) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets"), *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "")


def test_keys_on_lines_of_their_own_are_told_apart() -> None:
    """As the service reads them: a client that is there is not added again, and one leaves alone."""
    stored = _stored("web", "batch")
    pairs = [f"{name}:{key}" for name, key in _keys(stored).items()]
    stored["data"]["DMVFN_API_KEYS"] = base64.b64encode(",\n  ".join(pairs).encode()).decode()
    assert _change(stored, "--add-client", "batch").returncode == 1
    changed = json.loads(_change(stored, "--remove-client", "web").stdout)
    assert _keys(changed) == {"batch": pairs[1].partition(":")[2]}


def test_external_secrets_make_the_same_secrets() -> None:
    """Names, keys, and the ACL's text with the passwords' digests."""
    path = DEPLOY / "kubernetes" / "components" / "external-secrets" / "externalsecrets.yaml"
    templates = {}
    for manifest in yaml.safe_load_all(path.read_text()):
        target = manifest["spec"]["target"]
        templates[target["name"]] = target["template"]["data"]
        fetched = {item["secretKey"] for item in manifest["spec"]["data"]}
        assert set(re.findall(r"{{ \.(\w+)", json.dumps(target))) == fetched
    secrets = _made()
    assert {name: set(data) for name, data in templates.items()} == {
        name: set(item["stringData"]) for name, item in secrets.items()
    }
    text = templates["dmvfn-redis-acl"]["users.acl"]
    fields = {"dmvfn": "redisPassword", "reload": "reloadPassword"}
    for name, field in fields.items():
        text = text.replace(f"{{{{ .{field} | sha256sum }}}}", f"{name.upper()}_PASSWORD_SHA256")
    assert text == (DEPLOY / "redis" / "users.acl").read_text()


def test_the_acl_follows_the_queues_name(tmp_path: Path) -> None:
    """With the shipped file a front end of another queue was refused every key."""
    secrets = _made("--queue", "next")
    server = Server(binary())
    acl = tmp_path / "users.acl"
    acl.write_text(secrets["dmvfn-redis-acl"]["stringData"]["users.acl"])
    server.options = ("--aclfile", str(acl))
    password = secrets["dmvfn-secrets"]["stringData"]["DMVFN_REDIS_PASSWORD"]
    server.client = lambda: redis.Redis(  # type: ignore[method-assign]
        unix_socket_path=str(server.socket), username="dmvfn", password=password, retry=NEVER
    )
    try:
        client: Any = server.start().client()
        with client:
            client.xadd("{next}:s:0:32x48@1", {"id": "1"})
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xadd("{dmvfn}:s:0:32x48@1", {"id": "1"})
    finally:
        server.remove()


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
