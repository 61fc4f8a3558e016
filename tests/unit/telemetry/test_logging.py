"""Log lines are JSON with the caller's fields, or readable text."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from service.telemetry import logging as service_logging
from service.telemetry.logging import JsonFormatter, TextFormatter


def _record(**extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "service.rest", "levelname": "INFO", "msg": "answered %s", "args": ("x",)})
    record.created = 0.25
    vars(record).update(extra)
    return record


def test_a_json_line_has_time_level_message_and_extra_fields() -> None:
    assert json.loads(JsonFormatter().format(_record(request_id="abc", status=200))) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "service.rest",
        "message": "answered x",
        "request_id": "abc",
        "status": 200,
    }


def test_an_exception_is_one_field_of_one_line() -> None:
    record = _record()
    try:
        raise RuntimeError("broken\nin two lines")
    except RuntimeError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "broken" in json.loads(line)["exception"]


def test_text_ends_with_the_extra_fields() -> None:
    assert TextFormatter("%(name)s: %(message)s").format(_record(status=200)) == "service.rest: answered x status=200"


def test_a_line_costs_no_search_for_what_it_does_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))  # given back afterwards
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    level = root.level
    try:
        service_logging.configure("info", "json")
    finally:
        root.setLevel(level)
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(root.handlers[0], "emit", records.append)
    logging.getLogger("service.test").warning("written")
    (record,) = records
    assert (record.funcName, record.thread, record.process, record.processName) == ("(unknown function)", *[None] * 3)
