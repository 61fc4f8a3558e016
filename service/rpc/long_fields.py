"""Reads a message's fields of megabytes where they lie, beside the rest of it, which is parsed.

The protobuf runtime copies bytes when it parses them and again when they are asked for. Knows no field's meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from service.rpc.wire import WireType, delimited_head, read_varint

#: Bytes from which a field is left where it lies.
LONG = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A parsed message whose long fields are empty, and those by their path, such as `frame.raw.pixels`."""

    message: Any
    long: Mapping[str, memoryview] = field(default_factory=dict)

    def bytes_of(self, path: str, parsed: Callable[[], bytes]) -> bytes | memoryview:
        """Return the field at `path`: where it lies if it is long, else what `parsed` returns."""
        value = self.long.get(path)
        return parsed() if value is None else value


class _Unusual(Exception):
    """A message that no usual client writes: parsing it as it is gives what the protocol says."""


class _Field(NamedTuple):
    """Where a field lies in a message: its head, its content, its end; and its number."""

    start: int
    content: int
    end: int
    number: int


def read(data: bytes, parse: Callable[[bytes], Any], descriptor: Any) -> ReadMessage:
    """Parse `data`, but for its long fields of bytes. `descriptor` is the message's. Raises what `parse` raises."""
    if len(data) < LONG:
        return ReadMessage(parse(data))
    long: dict[str, memoryview] = {}
    try:
        short = b"".join(_without_long(memoryview(data), descriptor, "", long))
    except (_Unusual, IndexError):
        return ReadMessage(parse(data))
    return ReadMessage(parse(short), long)


def _without_long(
    view: memoryview, descriptor: Any, path: str, long: dict[str, memoryview]
) -> list[bytes | memoryview]:
    """Return a message's pieces with its long fields empty; add these to `long`.

    A field that comes twice, or in the place of another, would be joined with the first or end it: it is unusual.
    """
    pieces: list[bytes | memoryview] = []
    kept, seen = 0, set[str]()
    for place in _fields(view):
        kind = descriptor.fields_by_number.get(place.number)
        if kind is None or kind.is_repeated:
            continue
        name = kind.name if kind.containing_oneof is None else kind.containing_oneof.name
        if name in seen:
            raise _Unusual
        seen.add(name)
        if place.end - place.content < LONG or kind.type not in (
            FieldDescriptor.TYPE_BYTES,
            FieldDescriptor.TYPE_MESSAGE,
        ):
            continue
        content, inner = view[place.content : place.end], list[bytes | memoryview]()
        if kind.type == FieldDescriptor.TYPE_BYTES:
            long[path + kind.name] = content
        else:
            inner = _without_long(content, kind.message_type, f"{path}{kind.name}.", long)
        pieces += [view[kept : place.start], delimited_head(place.number, sum(map(len, inner))), *inner]
        kept = place.end
    return [*pieces, view[kept:]]


def _fields(view: memoryview) -> Iterator[_Field]:
    """Yield a message's fields. Raises IndexError if it ends within one, _Unusual for groups."""
    at = 0
    while at < len(view):
        start = at
        key, at = read_varint(view, at)
        content = at
        match key & 7:
            case WireType.VARINT:
                _, at = read_varint(view, at)
            case WireType.BYTES:
                length, content = read_varint(view, at)
                at = content + length
            case WireType.FIXED64:
                at += 8
            case WireType.FIXED32:
                at += 4
            case _:
                raise _Unusual
        if at > len(view):
            raise IndexError("the message ends within a field")
        yield _Field(start, content, at, key >> 3)
