"""Log lines: one JSON object each (or text), with the request's id where there is one.

Knows no secrets: it prints what it is given, and nobody gives it a key or a frame.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys

#: Attributes every record has; whatever else a caller passed as `extra` is printed.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, the caller's extra fields, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        return f"{line} {extra}" if extra else line


def configure(level: str, form: str) -> None:
    """Send every logger of this process to standard error. level: debug, info, warning, error; form: json or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if form == "json" else TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    # No line of ours tells where in the code it was written, by which thread or process: not looked for, either.
    # Source: "Optimization" in the logging HOWTO, https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "grpc"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Our own access line has the request's id, route and timings; uvicorn's would only repeat it.
    logging.getLogger("uvicorn.access").disabled = True
    # "Application startup complete" and the like: app.py says what matters.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
