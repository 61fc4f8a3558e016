"""Counts what a protobuf message holds before it is parsed. Knows nothing of calls.

A field takes two bytes on its way, and dozens in memory once it is parsed; converting it holds up all other calls.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from service.core.errors import TooLarge
from service.serving.oip.tensors import MAX_TYPED

#: Fields of one message and of all within it. Ours and the Open Inference Protocol's have dozens.
MAX_FIELDS = 4096
#: Bytes of numbers packed as varints, each of which may become eight: typed contents of UINT8 have two at most.
MAX_PACKED = 2 * MAX_TYPED
#: Bytes below which no message has too much.
SMALL = 2 * MAX_FIELDS

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GROUPS = (3, 4)
#: Kinds of fields whose bytes take no more in memory than on their way.
_EVEN_KINDS = {getattr(FieldDescriptor, f"TYPE_{kind}") for kind in ("STRING", "BYTES", "DOUBLE", "FLOAT")}
_EVEN_KINDS |= {getattr(FieldDescriptor, f"TYPE_{sign}FIXED{bits}") for sign in ("", "S") for bits in (32, 64)}


def check_fields(data: bytes, descriptor: Any) -> None:
    """Raise TooLarge for more than MAX_FIELDS fields or MAX_PACKED bytes of packed numbers.

    `descriptor` is the message's. What is no protobuf message passes: parsing tells that better.
    """
    if len(data) <= SMALL:
        return
    try:
        _Count().walk(data, descriptor)
    except IndexError:  # it ends within a field
        return


class _Count:
    def __init__(self) -> None:
        self.fields = self.packed = 0

    def walk(self, data: bytes, descriptor: Any) -> None:
        spans = [(0, len(data), descriptor)]
        while spans:
            at, end, kind = spans.pop()
            while at < end:
                key, at = _varint(data, at)
                self.fields += 1
                if self.fields > MAX_FIELDS:
                    raise TooLarge(f"the message holds more than {MAX_FIELDS} fields", field="body")
                wire_type = key & 7
                if wire_type == _VARINT:
                    _, at = _varint(data, at)
                elif wire_type == _BYTES:
                    length, at = _varint(data, at)
                    field = kind.fields_by_number.get(key >> 3) if kind is not None else None
                    if field is not None and field.message_type is not None:
                        spans.append((at, min(end, at + length), field.message_type))
                    elif field is not None and field.type not in _EVEN_KINDS:
                        self._add_packed(length)
                    at += length
                elif wire_type in (_FIXED64, _FIXED32):
                    at += 8 if wire_type == _FIXED64 else 4
                elif wire_type not in _GROUPS:
                    return

    def _add_packed(self, nbytes: int) -> None:
        self.packed += nbytes
        if self.packed > MAX_PACKED:
            raise TooLarge(f"the message holds more than {MAX_PACKED} bytes of numbers; send tensors raw", field="body")


def _varint(data: bytes, at: int) -> tuple[int, int]:
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
