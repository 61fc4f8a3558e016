"""`python -m service settings` and the start's log: values in force, where they come from, and no secret."""

from __future__ import annotations

import json
import logging
import os
import pty
from pathlib import Path

import pytest

from service import greeting
from service.cli.settings import HIDDEN, SettingInForce, in_force, log_in_force, main
from service.settings import PREFIX, Settings

KEY = "a-key-that-nobody-may-see"


def _environment(folder: Path) -> dict[str, str]:
    secret = folder / "redis"
    secret.write_text("redis://h:6379/0\n")
    return {
        "DMVFN_MAX_BATCH": "3",
        "DMVFN_DTYPE": "",
        "DMVFN_GRPC_ENABLED": "no",
        "DMVFN_API_KEYS": f"web:{KEY}",
        "DMVFN_REDIS_URL_FILE": str(secret),
        "DMVFN_OTLP_ENDPOINT": "http://collector:4317",
    }


def _shown(settings: Settings, environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {row.variable.removeprefix(PREFIX): (row.value, row.source) for row in in_force(settings, environment)}


def test_every_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    rows = _shown(Settings.from_env(environment).replace(engine="redis"), environment)
    assert set(rows) == {name.upper() for name in Settings.__dataclass_fields__}
    expected = {
        "MAX_BATCH": ("3", "environment"),
        "DTYPE": ("float32", "default"),
        "GRPC_ENABLED": ("0", "environment"),
        "WARMUP_SIZES": ("256x448", "default"),
        "WEIGHTS": ("", "default"),
        "ENGINE": ("redis", "argument"),
        "API_KEYS": (HIDDEN, "environment"),
        "REDIS_URL": (HIDDEN, f"file {tmp_path / 'redis'}"),
        "OTLP_ENDPOINT": (HIDDEN, "environment"),
        "REDIS_PASSWORD": ("", "default"),
    }
    assert {name: rows[name] for name in expected} == expected


def test_what_is_shown_can_be_set_again() -> None:
    """Written as one would write it, every default reads back as itself."""
    shown = {row.variable: row.value for row in in_force(Settings(), {})}
    assert Settings.from_env(shown) == Settings()


def test_it_is_printed_for_people_and_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = _environment(tmp_path)
    settings = Settings.from_env(environment)
    assert main([], settings, environment) == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("DMVFN_MAX_BATCH "))
    assert line.split()[:3] == ["DMVFN_MAX_BATCH", "3", "environment"]
    assert main(["--json"], settings, environment) == 0
    machine = capsys.readouterr().out
    assert json.loads(machine)["DMVFN_MAX_BATCH"] == {"value": "3", "source": "environment"}
    assert KEY not in text + machine


def test_the_start_logs_it_as_one_line_without_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = _environment(tmp_path)
    with caplog.at_level(logging.INFO, "service"):
        log_in_force(Settings.from_env(environment), environment)
    (record,) = caplog.records
    fields = vars(record)
    assert fields["settings"]["DMVFN_MAX_BATCH"] == "3"
    assert set(fields["sources"]) == {variable.removesuffix("_FILE") for variable, text in environment.items() if text}
    assert KEY not in json.dumps({name: fields[name] for name in ("settings", "sources")})


def test_the_greeting_is_for_terminals(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is one line of the log: plain text between JSON lines is what log readers choke on."""
    text = "DMVFN 1 is ready: http://localhost:8000\n  weights ours on cpu"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        greeting.announce(text)
        shown = b""
        while shown.count(b"\n") < 2:  # a terminal may hand on what was written in pieces
            shown += screen.read(1000)
        assert shown.decode().splitlines() == text.splitlines()
    assert caplog.records == []
    with Path(os.devnull).open("w") as pipe, caplog.at_level(logging.INFO, "service"):
        monkeypatch.setattr("sys.stdout", pipe)
        greeting.announce(text)
    assert [record.message for record in caplog.records] == [
        "DMVFN 1 is ready: http://localhost:8000; weights ours on cpu"
    ]


def test_a_start_that_fails_is_told_the_same_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w", buffering=1) as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        greeting.announce_failure(OSError("the port is taken"))
        assert screen.read(1000).decode().splitlines() == ["cannot start: the port is taken"]
    assert caplog.records == []
    with Path(os.devnull).open("w") as pipe:
        monkeypatch.setattr("sys.stderr", pipe)
        greeting.announce_failure(OSError("the port is taken"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "cannot start: the port is taken")
    ]


def test_a_row_holds_what_it_says() -> None:
    row = next(row for row in in_force(Settings(), {}) if row.variable == "DMVFN_HEALTH_PORT")
    assert row == SettingInForce("DMVFN_HEALTH_PORT", "0", "default", row.help)
