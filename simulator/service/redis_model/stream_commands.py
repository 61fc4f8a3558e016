"""The commands on streams. Arguments and answers are as on the wire (RESP2)."""

from __future__ import annotations

from typing import Any

from simulator.service.redis_model.store import RedisRefusal, Store
from simulator.service.redis_model.streams import (
    LAST,
    ConsumerGroup,
    EntryId,
    PendingEntry,
    Stream,
    read_id,
    read_start,
    read_stop,
    write_id,
)
from simulator.service.redis_model.values import OK, Command, whole

#: Entries that a trim to about a number leaves beyond it: servers remove whole nodes.
NODE = 100
#: Options of XADD between the key and the id.
SYNTAX = RedisRefusal("ERR syntax error")


def _group(store: Store, key: bytes, name: bytes, verb: str = "") -> tuple[Stream, ConsumerGroup]:
    stream = store.get(key, Stream)
    if stream is None or name not in stream.groups:
        tail = " in XREADGROUP with GROUP option" if verb == "XREADGROUP" else ""
        raise RedisRefusal(f"NOGROUP No such key '{key.decode()}' or consumer group '{name.decode()}'{tail}")
    return stream, stream.groups[name]


def _rows(stream: Stream, ids: list[EntryId]) -> list[list[Any]]:
    return [[write_id(entry), list(stream.entries[entry])] for entry in ids]


def xadd(store: Store, args: list[bytes]) -> bytes:
    """XADD key [MAXLEN ~ most] * field value..."""
    most, start = None, 1
    if args[1].upper() == b"MAXLEN":
        is_rough = args[2] == b"~"
        most, start = whole(args[3 if is_rough else 2]) + (NODE if is_rough else 0), 4 if is_rough else 3
    if args[start] != b"*" or len(args[start + 1 :]) % 2 or len(args) == start + 1:
        raise RedisRefusal("ERR wrong number of arguments for 'xadd' command")
    stream = store.make(args[0], Stream)
    entry = stream.add(store.clock(), args[start + 1 :])
    if most is not None and len(stream.ids) > most:
        stream.trim(most - NODE if is_rough else most)
    return write_id(entry)


def xlen(store: Store, args: list[bytes]) -> int:
    """XLEN key"""
    stream = store.get(args[0], Stream)
    return len(stream.ids) if stream else 0


def xdel(store: Store, args: list[bytes]) -> int:
    """XDEL key id..."""
    stream = store.get(args[0], Stream)
    return sum(stream.remove(read_id(text)) for text in args[1:]) if stream else 0


def xrange(store: Store, args: list[bytes]) -> list[list[Any]]:
    """XRANGE key low high [COUNT n]"""
    stream, count = store.get(args[0], Stream), whole(args[4]) if len(args) > 3 else None
    return _rows(stream, stream.between(read_start(args[1]), read_stop(args[2]), count)) if stream else []


def xrevrange(store: Store, args: list[bytes]) -> list[list[Any]]:
    """XREVRANGE key high low [COUNT n]"""
    stream, count = store.get(args[0], Stream), whole(args[4]) if len(args) > 3 else None
    ids = stream.between(read_start(args[2]), read_stop(args[1]))[::-1][:count] if stream else []
    return _rows(stream, ids) if stream else []


def xgroup(store: Store, args: list[bytes]) -> bytes:
    """XGROUP CREATE key group id [MKSTREAM]"""
    if args[0].upper() != b"CREATE":
        raise SYNTAX
    key, name, start = args[1:4]
    stream = store.get(key, Stream)
    if stream is None:
        if b"MKSTREAM" not in args[4:]:
            raise RedisRefusal(
                "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the "
                "MKSTREAM option to create an empty stream automatically."
            )
        stream = store.make(key, Stream)
    if name in stream.groups:
        raise RedisRefusal("BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = ConsumerGroup(stream.last if start == b"$" else read_id(start))
    return OK


def xinfo(store: Store, args: list[bytes]) -> list[list[Any]]:
    """XINFO GROUPS key; without the newer fields, which nobody here reads."""
    stream = store.get(args[1], Stream)
    if stream is None:
        raise RedisRefusal("ERR no such key")
    return [
        [
            *(b"name", name, b"consumers", len(group.consumers), b"pending", len(group.pending)),
            *(b"last-delivered-id", write_id(group.last)),
        ]
        for name, group in stream.groups.items()
    ]


def xreadgroup(store: Store, args: list[bytes]) -> list[list[Any]] | None:
    """XREADGROUP GROUP group consumer COUNT n STREAMS key >"""
    if len(args) != 8 or args[7] != b">":
        raise SYNTAX
    name, consumer, count, key = args[1], args[2], whole(args[4]), args[6]
    stream, group = _group(store, key, name, "XREADGROUP")
    group.consumers.setdefault(consumer)
    ids = stream.after(group.last, count)
    for entry in ids:
        group.pending[entry] = PendingEntry(consumer, store.clock(), 1)
        group.last = entry
    return [[key, _rows(stream, ids)]] if ids else None


def xack(store: Store, args: list[bytes]) -> int:
    """XACK key group id..."""
    stream = store.get(args[0], Stream)
    group = stream.groups.get(args[1]) if stream else None
    return sum(group.pending.pop(read_id(text), None) is not None for text in args[2:]) if group else 0


def xpending(store: Store, args: list[bytes]) -> list[Any]:
    """XPENDING key group [[IDLE ms] low high count]"""
    _, group = _group(store, args[0], args[1])
    if len(args) == 2:
        if not group.pending:
            return [0, None, None, None]
        owners: dict[bytes, int] = {}
        for claim in group.pending.values():
            owners[claim.consumer] = owners.get(claim.consumer, 0) + 1
        ends = [write_id(min(group.pending)), write_id(max(group.pending))]
        return [len(group.pending), *ends, [[name, b"%d" % owners[name]] for name in sorted(owners)]]
    least, words = 0, args[2:]
    if words[0].upper() == b"IDLE":
        least, words = whole(words[1]), words[2:]
    low, high, now = read_start(words[0]), read_stop(words[1]), store.clock()
    rows = [
        [write_id(entry), claim.consumer, max(0, now - claim.delivered_at), claim.deliveries]
        for entry, claim in sorted(group.pending.items(), key=lambda pair: pair[0])
        if low <= entry <= high and (not least or now - claim.delivered_at >= least)
    ]
    return rows[: whole(words[2])]


def xclaim(store: Store, args: list[bytes]) -> list[Any]:
    """XCLAIM key group consumer least_idle_ms id... [IDLE ms] [RETRYCOUNT n] [JUSTID]"""
    stream, group = _group(store, args[0], args[1])
    consumer, least, now = args[2], whole(args[3]), store.clock()
    ids, options = [], {}
    words = iter(args[4:])
    for word in words:
        if word[:1].isdigit():
            ids.append(read_id(word))
        elif word.upper() == b"JUSTID":
            options[b"JUSTID"] = 1
        else:
            options[word.upper()] = whole(next(words))
    group.consumers.setdefault(consumer)
    claimed = []
    for entry in ids:
        claim = group.pending.get(entry)
        if claim is None:
            continue
        if entry not in stream.entries:
            del group.pending[entry]
            continue
        if least and now - claim.delivered_at < least:
            continue
        claim.consumer, claim.delivered_at = consumer, now - options.get(b"IDLE", 0)
        if b"RETRYCOUNT" in options:
            claim.deliveries = options[b"RETRYCOUNT"]
        elif b"JUSTID" not in options:
            claim.deliveries += 1
        claimed.append(entry)
    return [write_id(entry) for entry in claimed] if b"JUSTID" in options else _rows(stream, claimed)


def xread(store: Store, args: list[bytes]) -> list[list[Any]] | None:
    """XREAD [COUNT n] [BLOCK ms] STREAMS key... id...; what blocks is the server's."""
    split = [word.upper() for word in args].index(b"STREAMS")
    words, count = args[split + 1 :], None
    if args[0].upper() == b"COUNT":
        count = whole(args[1])
    answer = []
    for key, text in zip(words[: len(words) // 2], words[len(words) // 2 :], strict=True):
        stream = store.get(key, Stream)
        if stream is not None and (ids := stream.after(LAST if text == b"$" else read_id(text), count)):
            answer.append([key, _rows(stream, ids)])
    return answer or None


COMMANDS: dict[bytes, Command] = {
    name.encode(): command
    for name, command in {
        "XADD": xadd,
        "XLEN": xlen,
        "XDEL": xdel,
        "XRANGE": xrange,
        "XREVRANGE": xrevrange,
        "XGROUP": xgroup,
        "XINFO": xinfo,
        "XREADGROUP": xreadgroup,
        "XACK": xack,
        "XPENDING": xpending,
        "XCLAIM": xclaim,
        "XREAD": xread,
    }.items()
}
