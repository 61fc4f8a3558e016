"""Streams and their consumer groups: entries, what is claimed by whom, and since when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from simulator.service.redis_model.store import RedisRefusal

EntryId = tuple[int, int]
FIRST: EntryId = (0, 0)
LAST: EntryId = (1 << 64, 1 << 64)


@dataclass(slots=True)
class PendingEntry:
    """A claimed entry: by whom, since when (ms), and how often it was delivered."""

    consumer: bytes
    delivered_at: int
    deliveries: int


@dataclass(slots=True)
class ConsumerGroup:
    """What a group has claimed, and the last entry that it was given."""

    last: EntryId = FIRST
    pending: dict[EntryId, PendingEntry] = field(default_factory=dict)
    consumers: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """Entries by id; `ids` in order."""

    entries: dict[EntryId, list[bytes]] = field(default_factory=dict)
    ids: list[EntryId] = field(default_factory=list)
    last: EntryId = FIRST
    groups: dict[bytes, ConsumerGroup] = field(default_factory=dict)

    def add(self, now: int, fields: list[bytes]) -> EntryId:
        """Append an entry at `now` milliseconds; return its id, which is above all before it."""
        entry = (now, 0) if now > self.last[0] else (self.last[0], self.last[1] + 1)
        self.last = entry
        self.entries[entry] = fields
        self.ids.append(entry)
        return entry

    def remove(self, entry: EntryId) -> bool:
        """Remove an entry; what was claimed stays claimed. Tell whether there was one."""
        if self.entries.pop(entry, None) is None:
            return False
        del self.ids[bisect_left(self.ids, entry)]
        return True

    def trim(self, most: int) -> None:
        """Remove the oldest entries beyond `most`."""
        for entry in self.ids[: max(0, len(self.ids) - most)]:
            del self.entries[entry]
        self.ids = self.ids[max(0, len(self.ids) - most) :]

    def between(self, low: EntryId, high: EntryId, count: int | None = None) -> list[EntryId]:
        """List the ids from `low` to `high`, both included, `count` at most."""
        start, stop = bisect_left(self.ids, low), bisect_right(self.ids, high)
        return self.ids[start : stop if count is None else min(stop, start + count)]

    def after(self, entry: EntryId, count: int | None = None) -> list[EntryId]:
        """List the ids behind `entry`, `count` at most."""
        return self.between((entry[0], entry[1] + 1), LAST, count)

    def put_back(self, entry: EntryId, fields: list[bytes]) -> None:
        """Insert an entry at its place."""
        insort(self.ids, entry)
        self.entries[entry] = fields


def read_id(text: bytes, rest: int = 0) -> EntryId:
    """Read an id; one without a second part gets `rest`."""
    first, dash, second = text.partition(b"-")
    try:
        return int(first), int(second) if dash else rest
    except ValueError:
        raise RedisRefusal("ERR Invalid stream ID specified as stream command argument") from None


def read_start(text: bytes) -> EntryId:
    """Read the lower end of a range: `-`, an id, or `(` and an id that is left out."""
    if text == b"-":
        return FIRST
    if text.startswith(b"("):
        first, second = read_id(text[1:])
        return first, second + 1
    return read_id(text)


def read_stop(text: bytes) -> EntryId:
    """Read the upper end of a range: `+`, an id, or `(` and an id that is left out."""
    if text == b"+":
        return LAST
    if text.startswith(b"("):
        first, second = read_id(text[1:], 1 << 64)
        return (first, second - 1) if second else (first - 1, 1 << 64)
    return read_id(text, 1 << 64)


def write_id(entry: EntryId) -> bytes:
    """Write an id as servers do."""
    return b"%d-%d" % entry
