"""How protobuf writes numbers and fields' heads. Knows no message."""

from __future__ import annotations

import enum


class WireType(enum.IntEnum):
    """What follows a field's head; groups, which no message of ours has, are left out."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2  #: a length, then so many bytes: bytes, strings, messages, packed numbers
    FIXED32 = 5


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read a number of at most ten bytes; return it and where it ends. Raises IndexError where it does not."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError("a varint of more than ten bytes")


def delimited_head(number: int, nbytes: int) -> bytes:
    """Write what comes before the `nbytes` of the field `number`, of wire type BYTES."""
    return _varint(number << 3 | WireType.BYTES) + _varint(nbytes)


def _varint(value: int) -> bytes:
    """Write a number, seven bits a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
