"""Runs the service's real Lua, in the version that servers have (5.1), over the model's commands."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import lupa.lua51

from simulator.service.redis_model.store import RedisRefusal

#: What a script's text is wrapped in: it sees its keys and arguments, and `redis` as on a server.
WRAPPED = b"return function(KEYS, ARGV)\n%s\nend"
#: One for all servers: scripts keep nothing in it, and are compiled once.
LUA = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)


class _Caller:
    """What `redis.call` runs commands on: the server whose script runs. Scripts do not run inside one another."""

    def __init__(self) -> None:
        self.execute: Callable[[list[bytes]], Any]
        LUA.globals()[b"redis"] = LUA.table_from({b"call": self._call, b"pcall": self._pcall})

    def _call(self, *args: Any) -> Any:
        answer = self.execute([arg if arg.__class__ is bytes else _word(arg) for arg in args])
        if answer is None:
            return False
        return _table(answer) if answer.__class__ is list else answer

    def _pcall(self, *args: Any) -> Any:
        try:
            return self._call(*args)
        except RedisRefusal as refusal:
            return LUA.table_from({b"err": str(refusal).encode()})


# Not one for each server: what Lua and Python hold of one another is never let go of.
_CALLER = _Caller()


@functools.cache
def compiled(text: bytes) -> Any:
    """Return the function of `KEYS` and `ARGV` that a script's text is."""
    return LUA.execute(WRAPPED % text)


class LuaScripts:
    """The scripts that one server knows by their digests. `execute` runs a command and returns its RESP2 answer."""

    def __init__(self, execute: Callable[[list[bytes]], Any]) -> None:
        self._execute = execute
        self._functions: dict[bytes, Any] = {}

    def knows(self, digest: bytes) -> bool:
        """Tell whether EVALSHA of this digest would run."""
        return digest in self._functions

    def forget(self) -> None:
        """Forget all scripts, as a server does that is started again."""
        self._functions = {}

    def run_text(self, text: bytes, keys: list[bytes], args: list[bytes]) -> Any:
        """Run a script, and know it from now on."""
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        if digest not in self._functions:
            self._functions[digest] = compiled(text)
        return self.run(digest, keys, args)

    def run(self, digest: bytes, keys: list[bytes], args: list[bytes]) -> Any:
        """Run a script that is known. Raises RedisRefusal with what it raised."""
        _CALLER.execute = self._execute
        try:
            return _answer(self._functions[digest](LUA.table_from(keys), LUA.table_from(args)))
        except lupa.lua51.LuaError as error:
            raise RedisRefusal(f"ERR script: {error}") from error


def _table(items: list[Any]) -> Any:
    plain = [False if item is None else _table(item) if item.__class__ is list else item for item in items]
    return LUA.table_from(plain)


def _answer(value: Any) -> Any:
    kind = value.__class__
    if kind is bytes or kind is int:
        return value
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if kind is float:
        return int(value)
    if value[b"err"] is not None:
        raise RedisRefusal(value[b"err"].decode())
    items, index = [], 1
    while (item := value[index]) is not None:
        items.append(_answer(item))
        index += 1
    return items


def _word(value: Any) -> bytes:
    """Write a number that is an argument of redis.call as servers do."""
    kind = value.__class__
    if kind is int and -(10**17) < value < 10**17:
        return b"%d" % value
    if kind is int or kind is float:
        return b"%.17g" % value
    raise RedisRefusal("ERR Lua redis lib command arguments must be strings or integers")
