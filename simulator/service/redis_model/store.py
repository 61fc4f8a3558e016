"""The keys of one server, and when they expire. Times are the server's, whole milliseconds."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class RedisRefusal(Exception):
    """An error reply: its text as a server sends it, the code first."""


class Hash(dict[bytes, bytes]):
    """Fields and values, in the order of their first writing."""


class Members(dict[bytes, None]):
    """A set that remembers the order in which its members came."""


class ScoredMembers(dict[bytes, float]):
    """A sorted set: member -> score."""

    def ranked(self) -> list[tuple[bytes, float]]:
        """Return the members with their scores, lowest first, equal ones by name."""
        return sorted(self.items(), key=lambda pair: (pair[1], pair[0]))


class ValueList(deque[bytes]):
    """A list; its head is on the left."""


WRONG_TYPE = RedisRefusal("WRONGTYPE Operation against a key holding the wrong kind of value")


class Store:
    """What one server keeps. `clock` returns its wall clock in milliseconds; it may jump."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.values: dict[bytes, Any] = {}
        self.expiries: dict[bytes, int] = {}

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """Return the value of a key, None where there is none or its time is over. Raises RedisRefusal for others."""
        expiry = self.expiries.get(key)
        if expiry is not None and expiry <= self.clock():
            self.remove(key)
        value = self.values.get(key)
        if value is None or value.__class__ is kind or isinstance(value, kind):
            return value
        raise WRONG_TYPE

    def make(self, key: bytes, kind: type[T]) -> T:
        """Return the value of a key, made empty where there is none."""
        value = self.get(key, kind)
        if value is None:
            value = self.values[key] = kind()
        return value

    def put(self, key: bytes, value: object, expiry: int | None = None) -> None:
        """Set a key, and when it expires; it loses the expiry that it had."""
        self.values[key] = value
        self.expiries.pop(key, None)
        if expiry is not None:
            self.expiries[key] = expiry

    def exists(self, key: bytes) -> bool:
        """Tell whether there is such a key."""
        return self.get(key, object) is not None

    def remove(self, key: bytes) -> bool:
        """Remove a key; tell whether there was one."""
        self.expiries.pop(key, None)
        return self.values.pop(key, None) is not None

    def drop_empty(self, key: bytes) -> None:
        """Remove a key whose last member went."""
        if not self.values.get(key, True):
            self.remove(key)

    def names(self) -> list[bytes]:
        """List the keys that have not expired, in the order in which they were made."""
        return [key for key in list(self.values) if self.exists(key)]

    def copy(self) -> dict[str, Any]:
        """Return all that is kept, for `restore`."""
        return {"values": copy.deepcopy(self.values), "expiries": dict(self.expiries)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `copy` returned."""
        self.values, self.expiries = copy.deepcopy(state["values"]), dict(state["expiries"])
