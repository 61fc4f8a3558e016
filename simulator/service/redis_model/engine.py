"""Executes one command of one server, scripts among them. Knows no connection, and nothing that blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulator.service.redis_model import member_commands, stream_commands, values
from simulator.service.redis_model.lua_scripts import LuaScripts
from simulator.service.redis_model.store import RedisRefusal, Store, ValueList

#: What a server with an append-only file says of itself; nothing here is asked for more.
INFO = b"redis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
#: Commands after which a blocked read of their key may have something to read.
NEWS = frozenset({b"XADD", b"LPUSH"})
CONFIG = {b"appendfsync": b"everysec", b"proto-max-bulk-len": b"536870912"}


class CommandEngine:
    """One server's commands over one store; `clock` is its wall clock in milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.store = Store(clock)
        self.scripts = LuaScripts(self._execute)
        self._commands = {
            **values.COMMANDS,
            **member_commands.COMMANDS,
            **stream_commands.COMMANDS,
            b"RENAME": self._rename,
        }
        self.news: set[bytes] = set()  #: keys that got what a blocked read may wait for; who looks empties it
        self.on_rename: Callable[[bytes, bytes], None] = lambda key, name: None  #: before a key gets another name

    def execute(self, args: Sequence[Any]) -> Any:
        """Run a command as redis-py sends it; return its RESP2 answer. Raises RedisRefusal for an error reply."""
        return self._execute([word if word.__class__ is bytes else _encode(word) for word in args])

    def blocking_pop(self, key: bytes) -> list[bytes] | None:
        """Do what BLPOP does at once: pop the head of a list, or None."""
        tokens = self.store.get(key, ValueList)
        if not tokens:
            return None
        token = tokens.popleft()
        self.store.drop_empty(key)
        return [key, token]

    def _rename(self, store: Store, args: list[bytes]) -> bytes:
        if store.exists(args[0]):
            self.on_rename(args[0], args[1])
        return values.rename(store, args)

    def _execute(self, args: list[bytes]) -> Any:
        name = args[0]
        command = self._commands.get(name)
        if command is not None:
            if name in NEWS:
                self.news.add(args[1])
            return command(self.store, args[1:])
        if name in (b"EVALSHA", b"EVAL"):
            count = int(args[2])
            keys, rest = args[3 : 3 + count], args[3 + count :]
            if name == b"EVAL":
                return self.scripts.run_text(args[1], keys, rest)
            if not self.scripts.knows(args[1]):
                raise RedisRefusal("NOSCRIPT No matching script. Please use EVAL.")
            return self.scripts.run(args[1], keys, rest)
        if name == b"PING":
            return b"PONG"
        if name == b"INFO":
            return INFO
        if name == b"CONFIG GET":
            return [args[1], CONFIG[args[1]]] if args[1] in CONFIG else []
        if name == b"ACL DRYRUN":
            return values.OK
        raise RedisRefusal(f"ERR unknown command '{args[0].decode()}'")


def _encode(word: Any) -> bytes:
    return (repr(word) if word.__class__ is float else str(word)).encode()
