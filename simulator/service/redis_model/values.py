"""The commands on keys, strings, hashes, sets, sorted sets and lists. Arguments and answers are as on the wire (RESP2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from simulator.service.redis_model.store import (
    Hash,
    Members,
    RedisRefusal,
    ScoredMembers,
    Store,
    ValueList,
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


def real(text: bytes) -> float:
    """Read a score."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise RedisRefusal("ERR value is not a valid float")
    return number


def write_real(number: float) -> bytes:
    """Write a score: whole ones without a fraction."""
    if number == int(number) and abs(number) < 1e17:
        return b"%d" % int(number)
    return b"%.17g" % number


def _bound(text: bytes) -> tuple[float, bool]:
    return (real(text[1:]), True) if text.startswith(b"(") else (real(text), False)


def _within(members: ScoredMembers, low: bytes, high: bytes) -> list[bytes]:
    (least, opens), (most, closes) = _bound(low), _bound(high)
    return [
        member
        for member, score in members.ranked()
        if (score > least or (score == least and not opens)) and (score < most or (score == most and not closes))
    ]


def _slice(length: int, start: int, stop: int) -> slice:
    first = max(0, start + length if start < 0 else start)
    return slice(first, max(first, (stop + length if stop < 0 else stop) + 1))


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
    return (store.get(args[0], Hash) or {}).get(args[1])


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


# --- sets, sorted sets, lists ---------------------------------------------------------------------------------------------


def sadd(store: Store, args: list[bytes]) -> int:
    """SADD key member..."""
    members = store.make(args[0], Members)
    before = len(members)
    members.update(dict.fromkeys(args[1:]))
    return len(members) - before


def srem(store: Store, args: list[bytes]) -> int:
    """SREM key member..."""
    members = store.get(args[0], Members)
    if members is None:
        return 0
    before = len(members)
    for member in args[1:]:
        members.pop(member, None)
    count = before - len(members)
    store.drop_empty(args[0])
    return count


def scard(store: Store, args: list[bytes]) -> int:
    """SCARD key"""
    return len(store.get(args[0], Members) or ())


def smembers(store: Store, args: list[bytes]) -> list[bytes]:
    """SMEMBERS key"""
    return list(store.get(args[0], Members) or ())


def zadd(store: Store, args: list[bytes]) -> int:
    """ZADD key [NX] score member..."""
    only_new = args[1].upper() == b"NX"
    words = args[2:] if only_new else args[1:]
    members, count = store.make(args[0], ScoredMembers), 0
    for text, member in zip(words[::2], words[1::2], strict=True):
        score = real(text)
        count += member not in members
        if not (only_new and member in members):
            members[member] = score
    return count


def zrem(store: Store, args: list[bytes]) -> int:
    """ZREM key member..."""
    members = store.get(args[0], ScoredMembers)
    if members is None:
        return 0
    count = sum(members.pop(member, None) is not None for member in args[1:])
    store.drop_empty(args[0])
    return count


def zscore(store: Store, args: list[bytes]) -> bytes | None:
    """ZSCORE key member"""
    score = (store.get(args[0], ScoredMembers) or {}).get(args[1])
    return None if score is None else write_real(score)


def zmscore(store: Store, args: list[bytes]) -> list[bytes | None]:
    """ZMSCORE key member..."""
    return [zscore(store, [args[0], member]) for member in args[1:]]


def zcard(store: Store, args: list[bytes]) -> int:
    """ZCARD key"""
    return len(store.get(args[0], ScoredMembers) or ())


def zcount(store: Store, args: list[bytes]) -> int:
    """ZCOUNT key low high"""
    return len(_within(store.get(args[0], ScoredMembers) or ScoredMembers(), args[1], args[2]))


def zrange(store: Store, args: list[bytes]) -> list[bytes]:
    """ZRANGE key start stop"""
    ranked = (store.get(args[0], ScoredMembers) or ScoredMembers()).ranked()
    return [member for member, _ in ranked[_slice(len(ranked), whole(args[1]), whole(args[2]))]]


def zrangebyscore(store: Store, args: list[bytes]) -> list[bytes]:
    """ZRANGEBYSCORE key low high [LIMIT offset count]"""
    members = _within(store.get(args[0], ScoredMembers) or ScoredMembers(), args[1], args[2])
    if len(args) > 3:
        offset, count = whole(args[4]), whole(args[5])
        members = members[offset : offset + count if count >= 0 else None]
    return members


def zremrangebyscore(store: Store, args: list[bytes]) -> int:
    """ZREMRANGEBYSCORE key low high"""
    members = store.get(args[0], ScoredMembers)
    if members is None:
        return 0
    lapsed = _within(members, args[1], args[2])
    for member in lapsed:
        del members[member]
    store.drop_empty(args[0])
    return len(lapsed)


def lpush(store: Store, args: list[bytes]) -> int:
    """LPUSH key value..."""
    values = store.make(args[0], ValueList)
    values.extendleft(args[1:])
    return len(values)


def ltrim(store: Store, args: list[bytes]) -> bytes:
    """LTRIM key start stop"""
    values = store.get(args[0], ValueList)
    if values is not None:
        left = list(values)[_slice(len(values), whole(args[1]), whole(args[2]))]
        values.clear()
        values.extend(left)
        store.drop_empty(args[0])
    return OK


def llen(store: Store, args: list[bytes]) -> int:
    """LLEN key"""
    return len(store.get(args[0], ValueList) or ())


def time(store: Store, args: list[bytes]) -> list[bytes]:
    """TIME"""
    seconds, ms = divmod(store.clock(), 1000)
    return [b"%d" % seconds, b"%d" % (1000 * ms)]


COMMANDS: dict[bytes, Command] = {
    name.encode(): command
    for name, command in {
        **{"EXISTS": exists, "DEL": unlink, "UNLINK": unlink, "PEXPIRE": pexpire, "PERSIST": persist, "PTTL": pttl},
        **{"TTL": ttl, "RENAME": rename, "SET": put, "GET": get, "MGET": mget, "STRLEN": strlen, "TIME": time},
        **{"HGET": hget, "HMGET": hmget, "HSET": hset, "HSETNX": hsetnx, "HDEL": hdel, "HINCRBY": hincrby},
        **{"HLEN": hlen, "HEXISTS": hexists, "HGETALL": hgetall, "HKEYS": hkeys, "HVALS": hvals},
        **{"SADD": sadd, "SREM": srem, "SCARD": scard, "SMEMBERS": smembers},
        **{"ZADD": zadd, "ZREM": zrem, "ZSCORE": zscore, "ZMSCORE": zmscore, "ZCARD": zcard, "ZCOUNT": zcount},
        **{"ZRANGE": zrange, "ZRANGEBYSCORE": zrangebyscore, "ZREMRANGEBYSCORE": zremrangebyscore},
        **{"LPUSH": lpush, "LTRIM": ltrim, "LLEN": llen},
    }.items()
}
