"""The commands on keys, strings and hashes. Arguments and answers are as on the wire (RESP2)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from simulator.service.redis_model.store import (
    Hash,
    RedisRefusal,
    Store,
)

Command = Callable[[Store, list[bytes]], Any]
OK = b"OK"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"


def whole(text: bytes) -> int:
    """Read an integer as a server does. Raises RedisRefusal for anything else, `-0` and ` 1` among it."""
    try:
        number = int(text)
    except ValueError:
        raise RedisRefusal(NOT_AN_INTEGER) from None
    if b"%d" % number != text:
        raise RedisRefusal(NOT_AN_INTEGER)
    return number


# --- keys and strings -----------------------------------------------------------------------------------------------


def exists(store: Store, args: list[bytes]) -> int:
    """EXISTS key..."""
    return sum(store.exists(key) for key in args)


def unlink(store: Store, args: list[bytes]) -> int:
    """DEL and UNLINK key..."""
    return sum(store.exists(key) and store.remove(key) for key in args)


def pexpire(store: Store, args: list[bytes]) -> int:
    """PEXPIRE key ms"""
    key, life = args[0], whole(args[1])
    if not store.exists(key):
        return 0
    if life <= 0:
        store.remove(key)
    else:
        store.expiries[key] = store.clock() + life
    return 1


def persist(store: Store, args: list[bytes]) -> int:
    """PERSIST key"""
    return int(store.exists(args[0]) and store.expiries.pop(args[0], None) is not None)


def pttl(store: Store, args: list[bytes]) -> int:
    """PTTL key"""
    if not store.exists(args[0]):
        return -2
    expiry = store.expiries.get(args[0])
    return -1 if expiry is None else expiry - store.clock()


def ttl(store: Store, args: list[bytes]) -> int:
    """TTL key"""
    left = pttl(store, args)
    return left if left < 0 else (left + 500) // 1000


def rename(store: Store, args: list[bytes]) -> bytes:
    """RENAME key name"""
    if not store.exists(args[0]):
        raise RedisRefusal("ERR no such key")
    value, expiry = store.values[args[0]], store.expiries.get(args[0])
    store.remove(args[0])
    store.put(args[1], value, expiry)
    return OK


def copy_key(store: Store, args: list[bytes]) -> int:
    """COPY key name"""
    if args[0] == args[1]:
        raise RedisRefusal("ERR source and destination objects are the same")
    if not store.exists(args[0]) or store.exists(args[1]):
        return 0
    store.put(args[1], copy.deepcopy(store.values[args[0]]), store.expiries.get(args[0]))
    return 1


def put(store: Store, args: list[bytes]) -> bytes:
    """SET key value [PX ms]"""
    expiry = None
    if len(args) > 2:
        if len(args) != 4 or args[2].upper() != b"PX":
            raise RedisRefusal("ERR syntax error")
        expiry = store.clock() + whole(args[3])
    store.put(args[0], args[1], expiry)
    return OK


def get(store: Store, args: list[bytes]) -> bytes | None:
    """GET key"""
    return store.get(args[0], bytes)


def mget(store: Store, args: list[bytes]) -> list[bytes | None]:
    """MGET key..."""
    values = [store.get(key, object) for key in args]
    return [value if isinstance(value, bytes) else None for value in values]


def strlen(store: Store, args: list[bytes]) -> int:
    """STRLEN key"""
    return len(store.get(args[0], bytes) or b"")


# --- hashes -----------------------------------------------------------------------------------------------------------


def hget(store: Store, args: list[bytes]) -> bytes | None:
    """HGET key field"""
    return (store.get(args[0], Hash) or Hash()).get(args[1])


def hmget(store: Store, args: list[bytes]) -> list[bytes | None]:
    """HMGET key field..."""
    fields: dict[bytes, bytes] = store.get(args[0], Hash) or {}
    return [fields.get(name) for name in args[1:]]


def hset(store: Store, args: list[bytes]) -> int:
    """HSET key field value..."""
    if len(args) < 3 or len(args) % 2 == 0:
        raise RedisRefusal("ERR wrong number of arguments for 'hset' command")
    fields = store.make(args[0], Hash)
    before = len(fields)
    fields.update(zip(args[1::2], args[2::2], strict=True))
    return len(fields) - before


def hsetnx(store: Store, args: list[bytes]) -> int:
    """HSETNX key field value"""
    fields = store.make(args[0], Hash)
    if args[1] in fields:
        return 0
    fields[args[1]] = args[2]
    return 1


def hdel(store: Store, args: list[bytes]) -> int:
    """HDEL key field..."""
    fields = store.get(args[0], Hash)
    if fields is None:
        return 0
    count = sum(fields.pop(name, None) is not None for name in args[1:])
    store.drop_empty(args[0])
    return count


def hincrby(store: Store, args: list[bytes]) -> int:
    """HINCRBY key field by"""
    by, fields = whole(args[2]), store.make(args[0], Hash)
    try:
        number = whole(fields.get(args[1], b"0")) + by
    except RedisRefusal:
        raise RedisRefusal("ERR hash value is not an integer") from None
    fields[args[1]] = b"%d" % number
    return number


def hlen(store: Store, args: list[bytes]) -> int:
    """HLEN key"""
    return len(store.get(args[0], Hash) or ())


def hexists(store: Store, args: list[bytes]) -> int:
    """HEXISTS key field"""
    return int(args[1] in (store.get(args[0], Hash) or ()))


def hgetall(store: Store, args: list[bytes]) -> list[bytes]:
    """HGETALL key"""
    return [word for pair in (store.get(args[0], Hash) or {}).items() for word in pair]


def hkeys(store: Store, args: list[bytes]) -> list[bytes]:
    """HKEYS key"""
    return list(store.get(args[0], Hash) or ())


def hvals(store: Store, args: list[bytes]) -> list[bytes]:
    """HVALS key"""
    return list((store.get(args[0], Hash) or {}).values())


def time(store: Store, args: list[bytes]) -> list[bytes]:
    """TIME"""
    seconds, ms = divmod(store.clock(), 1000)
    return [b"%d" % seconds, b"%d" % (1000 * ms)]


COMMANDS: dict[bytes, Command] = {
    name.encode(): command
    for name, command in {
        "EXISTS": exists,
        "DEL": unlink,
        "UNLINK": unlink,
        "PEXPIRE": pexpire,
        "PERSIST": persist,
        "PTTL": pttl,
        "TTL": ttl,
        "RENAME": rename,
        "COPY": copy_key,
        "SET": put,
        "GET": get,
        "MGET": mget,
        "STRLEN": strlen,
        "TIME": time,
        "HGET": hget,
        "HMGET": hmget,
        "HSET": hset,
        "HSETNX": hsetnx,
        "HDEL": hdel,
        "HINCRBY": hincrby,
        "HLEN": hlen,
        "HEXISTS": hexists,
        "HGETALL": hgetall,
        "HKEYS": hkeys,
        "HVALS": hvals,
    }.items()
}
