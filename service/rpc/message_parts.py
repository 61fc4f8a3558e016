"""Writes a message around fields of megabytes, each of which is copied once. Knows no field's meaning.

The protobuf runtime copies bytes into a message, and the message once more where it is written.
"""

from __future__ import annotations

from typing import Any

from service.rpc.wire import delimited_head


class MessageParts:
    """A message with fields that are not copied before `joined`: bytes, or messages that have such fields."""

    def __init__(self, message: Any) -> None:
        """Take a message as it is now; what it holds is written first."""
        self._descriptor = message.DESCRIPTOR
        self._pieces: list[bytes | memoryview] = [message.SerializeToString()]
        self.nbytes = len(self._pieces[0])

    def add(self, name: str, value: bytes | memoryview | MessageParts) -> None:
        """Add the field `name`, or another value of a repeated one. A view is of single bytes that will not change."""
        pieces, nbytes = (value._pieces, value.nbytes) if isinstance(value, MessageParts) else ([value], len(value))
        head = delimited_head(self._descriptor.fields_by_name[name].number, nbytes)
        self._pieces += [head, *pieces]
        self.nbytes += len(head) + nbytes

    def joined(self) -> bytes:
        """Return the message as it travels."""
        return b"".join(self._pieces)
