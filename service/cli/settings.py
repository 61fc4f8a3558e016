"""`python -m service settings`: prints the settings in force and where each comes from; the start logs the same.

Shows no secret, nor what may hold one, such as a URL: only that it is set.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence

from service.settings import PREFIX, Settings, as_text

log = logging.getLogger("service")

#: Stands for a value that nobody may see.
HIDDEN = "(hidden)"


@dataclasses.dataclass(frozen=True, slots=True)
class SettingInForce:
    """A setting as it holds: `value` as one would write it, `source` default, environment, argument or file PATH."""

    variable: str
    value: str
    source: str
    help: str


def in_force(settings: Settings, environment: Mapping[str, str]) -> list[SettingInForce]:
    """List every setting of `settings`, which were read from `environment` and then, maybe, changed by an argument."""
    from_environment = Settings.from_env(environment)
    rows = []
    for field in dataclasses.fields(Settings):
        variable = PREFIX + field.name.upper()
        value = as_text(getattr(settings, field.name))
        source = "default"
        if getattr(settings, field.name) != getattr(from_environment, field.name):
            source = "argument"
        elif environment.get(variable, "").strip():
            source = "environment"
        elif value and field.metadata["secret"] and (path := environment.get(f"{variable}_FILE", "").strip()):
            source = f"file {path}"
        if value and field.metadata["hidden"]:
            value = HIDDEN
        rows.append(SettingInForce(variable, value, source, field.metadata["help"]))
    return rows


def log_in_force(settings: Settings, environment: Mapping[str, str]) -> None:
    """Log every setting in one line: `settings`, all values; `sources`, where those that are no defaults come from."""
    rows = in_force(settings, environment)
    fields = {
        "settings": {row.variable: row.value for row in rows},
        "sources": {row.variable: row.source for row in rows if row.source != "default"},
    }
    log.info("settings in force", extra=fields)


def main(arguments: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> int:
    """Print the settings in force; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m service settings", description="Print every setting in force and where it comes from."
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    rows = in_force(settings, environment)
    if parser.parse_args(arguments).json:
        print(json.dumps({row.variable: {"value": row.value, "source": row.source} for row in rows}, indent=2))
        return 0
    widths = [max(len(text) for text in column) for column in zip(*map(_columns, rows), strict=True)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(_columns(row), widths, strict=True)), row.help]))
    return 0


def _columns(row: SettingInForce) -> tuple[str, str, str]:
    return row.variable, row.value or "(empty)", row.source
