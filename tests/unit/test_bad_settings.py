"""A URL, address or secret that cannot be used: one line with the variable, status 2, and no part of the value."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis.asyncio

from service.__main__ import main
from service.distributed.broker.client import close, connect, connect_sync, hang_up_sync
from service.settings import Settings, SettingsError
from tests.unit.distributed.servers import NEVER, Server, binary, shipped_acl

#: Every printable character of ASCII, spaces at both ends.
EVERY = " " + "".join(chr(code) for code in range(32, 127)) + " "
#: What stands in a bad value where a password may; no part of it may be shown.
SECRET = "Zq7Zw8Zx9"
BAD = [
    *[
        ("REDIS_URL", value)
        for value in (
            f"notaurl{SECRET}",
            f"http://{SECRET}@h/0",
            f"redis://u:{SECRET}/9+aB==@h:6379/0",
            f"redis://u:1/{SECRET}@h:6379/0",
            f"redis://u:p@{SECRET}:w0rd#1@h:6379/0",
            f"redis://u:1?{SECRET}@h/0",
            f"redis://u:1#{SECRET}@h/0",
            f"redis://u:{SECRET}%4@h/0",
            f"redis://u:{SECRET}%zz@h/0",
            f"redis://u:{SECRET}@h:port/0",
            f"redis://h:99999/{SECRET}",
            f"redis://u:{SECRET}@h:0/0",
            f"redis://u:{SECRET}@h:6379/zero",
            f"redis://u:{SECRET}@[::1/0",
            f"redis://u:{SECRET} x@h/0",
            f"redis://u:{SECRET}@h/0?tls=1",
            f"redis://u:{SECRET}@h/0?socket_timeout=soon",
            f"rediss://u:{SECRET}@h?ssl_cert_reqs=x",
            f"rediss://u:{SECRET}@h?ssl_ca_certs=/nowhere/ca.crt",
            f"rediss://u:{SECRET}@h?ssl_certfile=/nowhere/tls.crt",
            f"unix://u:{SECRET}",
            f"unix://u:{SECRET}/b@/run/redis.sock",
            f"redis://u:{SECRET}\n@h/0",
            f"//u:{SECRET}@h/0",
        )
    ],
    *[
        ("REDIS_SENTINELS", value)
        for value in (SECRET, f"{SECRET}:", f"{SECRET}:port", f"{SECRET}:70000", f"u:{SECRET}@h:1", "[::1]")
    ],
    *[
        ("OTLP_ENDPOINT", value)
        for value in (
            f"http://u:{SECRET}@h:4317",
            f"http://h:{SECRET}",
            "http://h:99999",
            f"ftp://{SECRET}",
            f"http://h:4317/{SECRET} x",
            "http://",
        )
    ],
    *[("WEBHOOK_PREFIXES", value) for value in (f"https://u:{SECRET}@h/", f"https://{SECRET}", f"{SECRET}")],
    *[("API_KEYS", value) for value in (SECRET, f"{SECRET}:short", f":{SECRET}")],
    *[(name, f"{SECRET}\udcff") for name in ("REDIS_PASSWORD", "WEBHOOK_SECRET", "REDIS_URL")],
    *[
        ("WEIGHTS", value)
        for value in (
            f"https://u:{SECRET}@h/x#sha256={'0' * 64}",
            f"https://h/x?signature={SECRET}#sha256=0",
            f"s3://{SECRET}@h/x",
        )
    ],
    *[("OBJECT_STORE", value) for value in (f"s3://id:{SECRET}@bucket/x", f"https://u:{SECRET}@h/bucket")],
    *[
        ("OBJECT_STORE_ENDPOINT", value)
        for value in (SECRET, f"http://id:{SECRET}@h:9000", f"ftp://{SECRET}", f"http://h/?key={SECRET}")
    ],
    ("API_KEYS_FILE", f"/nowhere/{'x' * 300}"),
    ("WEIGHTS", "x" * 5000),
    ("DEVICE", "banana"),
    ("DEVICE", "cuda:"),
]


def pieces(secret: str, length: int = 3) -> Iterator[str]:
    """All parts of `length` characters."""
    return (secret[k : k + length] for k in range(len(secret) - length + 1))


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_stops_the_start_and_shows_nothing_of_itself(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("DMVFN_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv(f"DMVFN_{name}", value)
    assert main(["serve"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"DMVFN_{name}\b[^\n]+\n", printed.err)
    assert not [piece for piece in pieces(SECRET) if piece in printed.err]


@pytest.mark.parametrize("verb", ["serve", "work"])
def test_the_process_itself_ends_with_one_line_and_status_2(verb: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DMVFN_ENGINE": "redis",
        "DMVFN_REDIS_URL": f"redis://u:{SECRET}/a@h:6379/0",
    }
    command = [sys.executable, "-m", "service", verb]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
    assert run.stderr.startswith("DMVFN_REDIS_URL=(hidden): ")
    assert not [piece for piece in pieces(SECRET) if piece in run.stderr]


@pytest.mark.parametrize(
    "value",
    [
        "redis://h",
        "redis://h:1/5",
        f"rediss://u:{quote(EVERY, safe='')}@h:6380/0?ssl_ca_certs=/a/ca.crt",
        "redis://:pw@h",
        "unix:///run/redis.sock",
        "unix://u:p%40@/run/redis.sock?db=2",
        "redis://[::1]:6379/0",
        "redis://u@h",
    ],
)
def test_urls_that_redis_can_use_are_taken(value: str) -> None:
    assert Settings.from_env({"DMVFN_REDIS_URL": value}).redis_url == value


@pytest.mark.parametrize(
    "value", ["http://localhost:4317", "https://c.example", "collector:4317", "http://[::1]:4317/"]
)
def test_endpoints_that_can_be_used_are_taken(value: str) -> None:
    assert Settings.from_env({"DMVFN_OTLP_ENDPOINT": value}).otlp_endpoint == value


@pytest.mark.parametrize("value", ["http://minio:9000", "https://s3.example.com/tenant/", "http://[fd00::7]:9000"])
def test_stores_that_can_be_used_are_taken(value: str) -> None:
    assert Settings.from_env({"DMVFN_OBJECT_STORE_ENDPOINT": value}).object_store_endpoint == value


def test_a_password_is_given_once() -> None:
    for name, url in (("PASSWORD", "redis://u:p@h"), ("USERNAME", "redis://v:p@h")):
        with pytest.raises(SettingsError, match=f"DMVFN_REDIS_{name}"):
            Settings.from_env({"DMVFN_REDIS_URL": url, f"DMVFN_REDIS_{name}": "u"})


def test_a_secret_may_stand_in_a_file_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "password"
    for begin, end in (("", "\n"), ("\ufeff", "\r\n")):  # the other as Windows' editors write it
        file.write_text(f"{begin}{EVERY}{end}", encoding="utf-8", newline="")
        assert Settings.from_env({"DMVFN_REDIS_PASSWORD_FILE": str(file)}).redis_password == EVERY
    with pytest.raises(SettingsError, match="DMVFN_REDIS_PASSWORD_FILE"):
        Settings.from_env({"DMVFN_REDIS_PASSWORD_FILE": str(file), "DMVFN_REDIS_PASSWORD": "x"})
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="DMVFN_WEBHOOK_SECRET_FILE"):
        Settings.from_env({"DMVFN_WEBHOOK_SECRET_FILE": str(file)})


@pytest.mark.parametrize("apart", [True, False])
async def test_a_password_of_every_printable_character_opens_a_real_server(apart: bool) -> None:
    """Apart from the URL as it is, in it percent-encoded; for both of the service's clients."""
    assert set(string.printable) - set(EVERY) == set("\t\n\r\x0b\x0c")
    server = Server(binary(), acl=shipped_acl(EVERY))
    try:
        server.start()
        user = "" if apart else f"dmvfn:{quote(EVERY, safe='')}@"
        environment = {"DMVFN_REDIS_URL": f"unix://{user}{server.socket}"}
        if apart:
            environment |= {"DMVFN_REDIS_USERNAME": "dmvfn", "DMVFN_REDIS_PASSWORD": EVERY}
        settings = Settings.from_env(environment)
        client, threaded = connect(settings), connect_sync(settings)
        assert await client.ping()
        assert threaded.ping()
        await close(client)
        hang_up_sync(threaded)
        stranger = redis.Redis(
            unix_socket_path=str(server.socket), username="dmvfn", password=EVERY.strip(), retry=NEVER
        )
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stranger.close()
    finally:
        server.remove()


def test_a_health_check_asks_whatever_other_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service goes on with the keys it has while their file is wrong, and is not unwell for it."""
    (tmp_path / "keys").write_text("")
    monkeypatch.setenv("DMVFN_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("DMVFN_REDIS_PASSWORD_FILE", str(tmp_path / "gone"))
    monkeypatch.setenv("DMVFN_HTTP_PORT", "1")
    assert main(["serve"]) == 2
    assert "DMVFN_" in capsys.readouterr().err
    assert main(["health"]) == 1  # nobody listens there
    assert "not ready" in capsys.readouterr().err
    monkeypatch.setenv("DMVFN_HTTP_PORT", "no")
    assert main(["health"]) == 2
