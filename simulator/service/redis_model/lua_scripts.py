"""Runs the service's real Lua, in the version that servers have (5.1), over the model's commands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import lupa.lua51

from simulator.service.redis_model.store import RedisRefusal

#: What a script's text is wrapped in: it sees its keys and arguments, and `redis` as on a server.
WRAPPED = "return function(KEYS, ARGV)\n%s\nend"


class LuaScripts:
    """The scripts that one server knows by their digests. `execute` runs a command and returns its RESP2 answer."""

    def __init__(self, execute: Callable[[list[bytes]], Any]) -> None:
        self._execute = execute
        self._lua = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._functions: dict[bytes, Any] = {}
        self._sources: dict[bytes, Any] = {}  #: compiled once, though a server forgets them
        self._lua.globals()[b"redis"] = self._lua.table_from({b"call": self._call, b"pcall": self._pcall})

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
            if digest not in self._sources:
                self._sources[digest] = self._lua.execute(WRAPPED.encode() % text)
            self._functions[digest] = self._sources[digest]
        return self.run(digest, keys, args)

    def run(self, digest: bytes, keys: list[bytes], args: list[bytes]) -> Any:
        """Run a script that is known. Raises RedisRefusal with what it raised."""
        table = self._lua.table_from
        try:
            return self._answer(self._functions[digest](table(keys), table(args)))
        except lupa.lua51.LuaError as error:
            raise RedisRefusal(f"ERR script: {error}") from error

    def _call(self, *args: Any) -> Any:
        return self._value(self._execute([_word(arg) for arg in args]))

    def _pcall(self, *args: Any) -> Any:
        try:
            return self._call(*args)
        except RedisRefusal as refusal:
            return self._lua.table_from({b"err": str(refusal).encode()})

    def _value(self, answer: Any) -> Any:
        if answer is None:
            return False
        if type(answer) is list:
            return self._lua.table_from([self._value(item) for item in answer])
        return answer

    def _answer(self, value: Any) -> Any:
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, float):
            return int(value)
        if not isinstance(value, (int, bytes)):
            if value[b"err"] is not None:
                raise RedisRefusal(value[b"err"].decode())
            items, index = [], 1
            while (item := value[index]) is not None:
                items.append(self._answer(item))
                index += 1
            return items
        return value


def _word(value: Any) -> bytes:
    """Write an argument of redis.call as servers do."""
    kind = type(value)
    if kind is bytes:
        return bytes(value)
    if kind is int and -(10**17) < value < 10**17:
        return b"%d" % value
    if kind is int or kind is float:
        return b"%.17g" % value
    raise RedisRefusal("ERR Lua redis lib command arguments must be strings or integers")
