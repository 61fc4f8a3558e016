"""Replies come in any pieces and are read as redis-py reads them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
import redis
import redis.asyncio

from service.distributed.broker.frame_parser import FrameParser
from service.distributed.broker.reply_reader import ProtocolBroken, Push, ReplyReader

FRAME = random.Random(0).randbytes(344_064)


def error(text: str) -> Exception:
    return redis.ResponseError(text)


def fed(reader: ReplyReader, data: bytes, pieces: Sequence[int] = ()) -> list[Any]:
    """Feed `data` in pieces of these sizes, and what is left as the reader has room for it."""
    sizes, rest = iter(pieces), memoryview(data)
    while rest:
        room = reader.room()
        count = min(len(room), len(rest), next(sizes, len(rest)))
        room[:count], rest = rest[:count], rest[count:]
        reader.advance(count)
    return list(reader.replies)


def read(data: bytes, pieces: Sequence[int] = ()) -> list[Any]:
    return fed(ReplyReader(error), data, pieces)


KINDS = [
    (b"+OK\r\n", b"OK"),
    (b"+\r\n", b""),
    (b":-12\r\n", -12),
    (b"(3492890328409238509324850943850943825024385\r\n", 3492890328409238509324850943850943825024385),
    (b",1.25\r\n", 1.25),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b"_\r\n", None),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"=9\r\ntxt:hello\r\n", b"hello"),
    (b"*0\r\n", []),
    (b"%0\r\n", {}),
    (b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n*0\r\n", [b"a", [1, None], []]),
    (b"~2\r\n+a\r\n+b\r\n", [b"a", b"b"]),
    (b"%2\r\n$1\r\na\r\n*1\r\n:1\r\n$1\r\nb\r\n%1\r\n+c\r\n#t\r\n", {b"a": [1], b"b": {b"c": True}}),
]


@pytest.mark.parametrize(("data", "value"), KINDS, ids=[repr(data) for data, _ in KINDS])
def test_each_kind_is_read_whole_and_byte_by_byte(data: bytes, value: Any) -> None:
    assert read(data) == [value]
    assert read(data, [1] * len(data)) == [value]


@pytest.mark.parametrize("data", [b"-NOSCRIPT none\r\n", b"!13\r\nNOSCRIPT none\r\n"])
def test_an_error_is_what_redis_py_makes_of_it_within_a_list_too(data: bytes) -> None:
    reader = ReplyReader(FrameParser(1).parse_error)
    alone, listed = fed(reader, data + b"*2\r\n:1\r\n" + data)
    assert isinstance(alone, redis.exceptions.NoScriptError)
    assert isinstance(listed[1], redis.exceptions.NoScriptError)


def test_what_a_server_says_unasked_is_told_from_replies() -> None:
    (push, reply) = read(b">2\r\n+invalidate\r\n_\r\n+OK\r\n")
    assert (type(push), push, reply) == (Push, [b"invalidate", None], b"OK")


def test_replies_of_any_pieces_are_those_of_the_whole() -> None:
    data = b"".join(data for data, _ in KINDS) + b"*2\r\n$%d\r\n%b\r\n$1\r\nz\r\n" % (len(FRAME), FRAME)
    values = [value for _, value in KINDS] + [[FRAME, b"z"]]
    for seed in range(30):
        rng = random.Random(seed)
        pieces = [rng.choice([1, 2, 3, 7, 1000, 70_000]) for _ in range(2000)]
        assert read(data, pieces) == values


def test_a_frame_is_received_in_three_turns_however_large_it_is() -> None:
    """redis-py's parser takes one for each 64 to 256 KiB, and copies what is there each time."""
    reader, turns = ReplyReader(error), 0
    rest = memoryview(b"$%d\r\n%b\r\n+OK\r\n" % (100 * len(FRAME), 100 * FRAME))
    while rest:
        room = reader.room()
        count = min(len(room), len(rest))
        room[:count], rest = rest[:count], rest[count:]
        reader.advance(count)
        turns += 1
    assert (turns, list(reader.replies)) == (3, [100 * FRAME, b"OK"])


def test_a_line_longer_than_the_room_is_read_whole() -> None:
    text = "x" * 200_000
    (reply,) = read(b"-ERR " + text.encode() + b"\r\n", [5000] * 50)
    assert str(reply) == "ERR " + text


@pytest.mark.parametrize(
    "data", [b"?\r\n", b"$x\r\n", b"*1.5\r\n", b":one\r\n", b",one\r\n", b"$2\r\nabcd", b"HTTP/1.1 400\r\n"]
)
def test_what_is_no_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        read(data)


def test_a_reply_that_is_there_in_part_is_known() -> None:
    for data in (b"$4\r\nab", b"*2\r\n:1\r\n", b"+O"):
        reader = ReplyReader(error)
        assert not reader.is_amid
        fed(reader, data)
        assert reader.is_amid


def random_reply(rng: random.Random, depth: int = 0) -> bytes:
    kind = rng.choice("+:$_,#" if depth > 3 else "+:$_,#*~%*%$")
    if kind in "*~%":
        count = rng.randrange(4)
        items = [random_reply(rng, depth + 1) for _ in range(count)]
        if kind == "%":
            items = [b"$2\r\nk%d\r\n%b" % (k, item) for k, item in enumerate(items)]
        return b"%c%d\r\n%b" % (ord(kind), count, b"".join(items))
    if kind == "$":
        value = rng.randbytes(rng.choice([0, 3, 100, 70_000]))
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return {
        "+": b"+word\r\n",
        ":": b":%d\r\n" % rng.randrange(-5, 10**12),
        "_": b"_\r\n",
        ",": b",%.3f\r\n" % rng.random(),
        "#": rng.choice([b"#t\r\n", b"#f\r\n"]),
    }[kind]


async def test_a_thousand_random_replies_are_read_as_redis_py_reads_them() -> None:
    from redis._parsers import Encoder, _AsyncRESP3Parser

    encoders: Any = Encoder
    parsers: Any = _AsyncRESP3Parser

    class Opened:
        encoder = encoders("utf-8", "strict", False)

    for seed in range(20):
        rng = random.Random(seed)
        replies = [random_reply(rng) for _ in range(50)]
        opened: Any = Opened()
        opened._reader = asyncio.StreamReader()
        opened._reader.feed_data(b"".join(replies))
        opened._reader.feed_eof()
        theirs = parsers(65536)
        theirs.on_connect(opened)
        expected = [await theirs.read_response() for _ in replies]
        assert read(b"".join(replies), [rng.randrange(1, 5000) for _ in range(5000)]) == expected
