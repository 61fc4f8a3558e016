"""The commands on sets, sorted sets and lists. Arguments and answers are as on the wire (RESP2)."""

from __future__ import annotations

import math

from simulator.service.redis_model.store import Members, RedisRefusal, ScoredMembers, Store, ValueList
from simulator.service.redis_model.values import OK, Command, whole


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
    return zmscore(store, args)[0]


def zmscore(store: Store, args: list[bytes]) -> list[bytes | None]:
    """ZMSCORE key member..."""
    members: dict[bytes, float] = store.get(args[0], ScoredMembers) or {}
    return [None if (score := members.get(member)) is None else write_real(score) for member in args[1:]]


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


COMMANDS: dict[bytes, Command] = {
    name.encode(): command
    for name, command in {
        "SADD": sadd,
        "SREM": srem,
        "SCARD": scard,
        "SMEMBERS": smembers,
        "ZADD": zadd,
        "ZREM": zrem,
        "ZSCORE": zscore,
        "ZMSCORE": zmscore,
        "ZCARD": zcard,
        "ZCOUNT": zcount,
        "ZRANGE": zrange,
        "ZRANGEBYSCORE": zrangebyscore,
        "ZREMRANGEBYSCORE": zremrangebyscore,
        "LPUSH": lpush,
        "LTRIM": ltrim,
        "LLEN": llen,
    }.items()
}
