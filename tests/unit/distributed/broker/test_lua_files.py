"""The Lua files: headers that cannot lie, values given by name, and all of them packaged."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from service.distributed.broker import scripts
from service.distributed.broker.scripts import LUA, Script, parse
from service.distributed.broker.submission import RECORD_BYTES

ROOT = Path(__file__).parents[4]
LOADED = {script.name: script for script in vars(scripts).values() if isinstance(script, Script)}


def test_each_file_is_one_script() -> None:
    assert sorted(LOADED) == sorted(path.name for path in LUA.glob("*.lua"))


def test_a_header_names_its_keys_and_arguments_in_order() -> None:
    assert (LOADED["renew.lua"].keys, LOADED["renew.lua"].args) == (("stream",), ("group", "entry", "worker"))
    assert (LOADED["sweep.lua"].keys, LOADED["sweep.lua"].is_open) == (("due",), True)
    assert len(LOADED["submit.lua"].args) == 26


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("-- KEYS[1] job", "return KEYS[2]"),
        ("-- KEYS[1] job\n-- KEYS[2] load", "return KEYS[1]"),
        ("-- KEYS[1] job", "return {KEYS[1], ARGV[1]}"),
        ("-- KEYS[1] job\n-- ARGV[1] item", "return KEYS[1] -- ARGV[1]"),
        ("-- KEYS[1] job", "return {KEYS[1], #KEYS}"),
        ("-- KEYS[1] job\n-- KEYS[2...] outs", "return KEYS[1]"),
        ("-- KEYS[2] load\n-- KEYS[1] job", "return {KEYS[1], KEYS[2]}"),
        ("-- KEYS[1...] outs\n-- KEYS[2] job", "return {KEYS[1], KEYS[2], #KEYS}"),
    ],
)
def test_a_header_that_names_other_values_than_the_code_uses_is_refused(header: str, code: str) -> None:
    with pytest.raises(ValueError, match=r"lying\.lua"):
        parse("lying.lua", f"-- Does nothing.\n{header}\n\n{code}\n")


def test_values_are_given_by_name_all_of_them_and_no_others() -> None:
    names = {"stream": "s", "group": "g", "entry": "1-0", "worker": "w"}
    renew = scripts.RENEW
    assert renew.bind(**names).command == ("EVALSHA", renew.sha, 1, "s", "g", "1-0", "w")
    for wrong in ({**names, "lease_ms": 1}, {"stream": "s"}):
        with pytest.raises(TypeError, match=r"renew\.lua takes stream, group, entry, worker"):
            renew.bind(**wrong)
    with pytest.raises(TypeError):
        renew.bind("another key", **names)
    forget = scripts.FORGET.bind("o1", "o2", job="j", results="r", kept="k", fetched="f", job_id="1")
    assert forget.keys == ("j", "r", "k", "f", "o1", "o2")


def test_what_lua_and_python_both_say_is_the_same() -> None:
    entries = (LUA / "include" / "entries.lua").read_text()
    names = re.search(r"local names = \{([^}]*)\}", entries)
    assert names is not None
    assert {word.encode() for word in re.findall(r"'(\w+)'", names[1])[:7]} == scripts.RECORD
    assert f"local RECORD_BYTES = {RECORD_BYTES}\n" in (LUA / "include" / "record_bytes.lua").read_text()


def test_an_include_is_used_and_whole() -> None:
    texts = [script.text for script in LOADED.values()]
    for path in (LUA / "include").glob("*.lua"):
        assert any(path.read_text() in text for text in texts), path.name
    assert not any(line.startswith("-- include") for text in texts for line in text.splitlines())


def test_every_lua_file_is_packaged() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["service"]
    packaged = {path for pattern in patterns for path in (ROOT / "service").glob(pattern)}
    assert set((ROOT / "service").rglob("*.lua")) <= packaged
