"""`python -m service keys`: makes API keys for DMVFN_API_KEYS_FILE, and shows what such a file allows."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from service.core.api_keys import SHORTEST, ApiKey, Scope, digest_of, read_keys
from service.key_file import read_key_file
from service.settings import Settings

#: What a key begins with: scanners for leaked secrets look for such a mark.
PREFIX = "dmvfn_"
#: Random bytes of a key; with so many, an unsalted digest of it is no help to anybody.
KEY_BYTES = 32
_NAME = re.compile(r"[\w.-]+", re.ASCII)


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Run one verb; return 0, 1 for a file that cannot be used, 2 for a wrong command."""
    parser = argparse.ArgumentParser(prog="python -m service keys", description="Make and check API keys.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("new", help="print a table for the file, and the key itself, once, on standard error")
    new.add_argument("name", help="whose key it is: letters, digits, dots, dashes and underscores")
    new.add_argument("--stdin", action="store_true", help="take the key from standard input instead of a new one")
    new.add_argument("--scopes", help=f"comma-separated, of {', '.join(Scope)}; without it all but control")
    new.add_argument("--requests-per-s", type=float, metavar="N", help="requests a second, on average")
    new.add_argument("--burst", type=float, metavar="N", help="requests at once")
    new.add_argument("--gflop", type=float, metavar="N", help="10^9 FLOPs within the window")
    new.add_argument("--gflop-window-s", type=float, metavar="S", help="seconds; without it an hour")
    check = verbs.add_parser("check", help="list the names of a file with what each may do")
    check.add_argument("file", nargs="?", type=Path, help="without it that of DMVFN_API_KEYS_FILE")
    params = parser.parse_args(arguments)
    if params.verb == "new":
        return _new(params)
    return _check(params.file or settings.api_keys_file)


def _new(params: argparse.Namespace) -> int:
    key = sys.stdin.readline().strip() if params.stdin else PREFIX + secrets.token_urlsafe(KEY_BYTES)
    if not _NAME.fullmatch(params.name):
        print("a name is of letters, digits, dots, dashes and underscores", file=sys.stderr)
        return 2
    if len(key) < SHORTEST:
        print(f"a key must have at least {SHORTEST} characters", file=sys.stderr)
        return 2
    lines = [f"[{_table_name(params.name)}]", f'sha256 = "{digest_of(key).hex()}"']
    if params.scopes is not None:
        scopes = [scope.strip() for scope in params.scopes.split(",") if scope.strip()]
        lines.append(f"scopes = [{', '.join(f'{chr(34)}{scope}{chr(34)}' for scope in scopes)}]")
    for member in ("requests_per_s", "burst", "gflop", "gflop_window_s"):
        if (value := getattr(params, member)) is not None:
            lines.append(f"{member} = {value!r}")
    table = "\n".join(lines)
    try:
        read_keys(table)
    except ValueError as error:
        print(f"no such key can be: {error}", file=sys.stderr)
        return 2
    print(table + "\n")
    if not params.stdin:
        print(f"the key of {params.name}, shown once: {key}", file=sys.stderr)
    return 0


def _table_name(name: str) -> str:
    """Return a name as TOML has it: with a dot in it, it would be a table in a table."""
    return f'"{name}"' if "." in name else name


def _check(path: Path | None) -> int:
    if path is None:
        print("name a file, or set DMVFN_API_KEYS_FILE", file=sys.stderr)
        return 2
    try:
        keys = read_key_file(path).keys
    except ValueError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    for key in keys:
        print(_line(key))
    return 0


def _line(key: ApiKey) -> str:
    scopes = ",".join(scope for scope in Scope if scope in key.scopes)
    words = [key.name, f"keys {len(key.digests)}", f"scopes {scopes or '(none)'}"]
    if key.requests is not None:
        words.append(f"requests {key.requests.per_second:g}/s, {key.requests.capacity:g} at once")
    if key.gflop is not None:
        words.append(f"gflop {key.gflop.capacity:g} in {key.gflop.window:g} s")
    return "  ".join(words)
