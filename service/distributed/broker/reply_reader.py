"""Reads the replies of a Redis server from bytes as they come, RESP 2 and 3, in any pieces.

A bulk value that is not there as a whole is received into the memory that it will have, so that a frame is copied once.
Knows nothing of sockets: whoever has one asks where the next bytes go (`room`) and says how many came (`advance`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T", int, float)
#: Bytes that are received at once where no large value is awaited.
ROOM = 2**16
#: Kinds of replies that hold others: arrays, sets, pushes, and maps, whose numbers count pairs.
_NESTING = b"*~>%"
#: Kinds that are announced with their length: strings, verbatim strings and errors.
_BULK = b"$=!"


class ProtocolBroken(ValueError):
    """What came is no RESP."""


class Push(list[Any]):
    """What a server says unasked (RESP 3)."""


class _Aggregate:
    """A reply that holds `size` others, as far as they came."""

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = 2 * size if kind == ord("%") else size
        self.items: list[Any] = []

    def value(self) -> list[Any] | dict[Any, Any]:
        if self.kind == ord("%"):
            return dict(zip(self.items[::2], self.items[1::2], strict=True))
        return Push(self.items) if self.kind == ord(">") else self.items


class ReplyReader:
    """Turns bytes into `replies`, in their order: bytes, numbers, None, lists, maps, `Push`.

    Of an error reply, one is what `error` makes of its text.
    """

    def __init__(self, error: Callable[[str], Exception]) -> None:
        self.replies: deque[Any] = deque()
        self._error = error
        self._buffer = bytearray(ROOM)
        self._start = self._end = 0  #: of what came and is not read yet
        self._open: list[_Aggregate] = []
        self._bulk = memoryview(b"")  #: memory of a value under way, with its line's end
        self._bulk_kind = self._bulk_filled = 0

    @property
    def is_amid(self) -> bool:
        """Tell whether a part of a reply came and the rest did not."""
        return bool(self._bulk or self._open or self._start < self._end)

    def room(self) -> memoryview:
        """Return the memory for the next bytes, at least one."""
        if self._bulk:
            return self._bulk[self._bulk_filled :]
        if self._start and self._end == len(self._buffer):
            rest = self._buffer[self._start : self._end]
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        elif self._end == len(self._buffer):  # one line fills it
            self._buffer = self._buffer + bytes(len(self._buffer))
        return memoryview(self._buffer)[self._end :]

    def advance(self, nbytes: int) -> None:
        """Read `nbytes` that were put into `room`. Raise ProtocolBroken for what no server says."""
        if self._bulk:
            self._bulk_filled += nbytes
            if self._bulk_filled < len(self._bulk):
                return
            value, self._bulk = self._bulk, memoryview(b"")
            self._take_bulk(self._bulk_kind, value)
        else:
            self._end += nbytes
        while not self._bulk and (eol := self._buffer.find(b"\r\n", self._start, self._end)) >= 0:
            kind, text = self._buffer[self._start], bytes(memoryview(self._buffer)[self._start + 1 : eol])
            self._start = eol + 2
            self._read_line(kind, text)
        if self._start == self._end:
            self._start = self._end = 0

    def _read_line(self, kind: int, text: bytes) -> None:
        if kind in _BULK or kind in _NESTING:
            size = _number(text)
            if size < 0:  # RESP 2 has no other nothing
                self._deliver(None)
            elif kind in _BULK:
                self._begin_bulk(kind, size)
            elif size:
                self._open.append(_Aggregate(kind, size))
            else:
                self._deliver(_Aggregate(kind, 0).value())
        else:
            self._deliver(self._simple(kind, text))

    def _simple(self, kind: int, text: bytes) -> Any:
        if kind == ord("+"):
            return text
        if kind == ord("-"):
            return self._error(text.decode("utf-8", errors="replace"))
        if kind in b":(":
            return _number(text)
        if kind == ord(","):
            return _number(text, float)
        if kind == ord("#"):
            return text == b"t"
        if kind == ord("_"):
            return None
        raise ProtocolBroken(f"a reply of kind {chr(kind)!r}")

    def _begin_bulk(self, kind: int, size: int) -> None:
        end = self._start + size + 2
        if end <= self._end:
            view = memoryview(self._buffer)[self._start : end]
            self._start = end
            self._take_bulk(kind, view)
            return
        # Memory that is not written before what comes is: zeros for hundreds of megabytes would stop the event loop.
        self._bulk = np.empty(size + 2, np.uint8).data
        self._bulk_kind, self._bulk_filled = kind, self._end - self._start
        self._bulk[: self._bulk_filled] = memoryview(self._buffer)[self._start : self._end]
        self._start = self._end = 0

    def _take_bulk(self, kind: int, value: memoryview) -> None:
        if bytes(value[-2:]) != b"\r\n":
            raise ProtocolBroken("a value that does not end where its length says")
        if kind == ord("!"):
            self._deliver(self._error(bytes(value[:-2]).decode("utf-8", errors="replace")))
        else:
            self._deliver(bytes(value[4 if kind == ord("=") else 0 : -2]))

    def _deliver(self, value: Any) -> None:
        while self._open:
            aggregate = self._open[-1]
            aggregate.items.append(value)
            if len(aggregate.items) < aggregate.size:
                return
            self._open.pop()
            value = aggregate.value()
        self.replies.append(value)


def _number(text: bytes, kind: Callable[[bytes], T] = int) -> T:
    try:
        return kind(text)
    except ValueError:
        raise ProtocolBroken("a length or number that is none") from None
