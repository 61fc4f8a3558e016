"""Asks by the lightest client there is (`benchmarks.wire`), and keeps what a soak judges: times, and advice to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks import wire


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and how long it took from the first byte sent, seconds. `status` 0: the connection broke."""

    status: int
    seconds: float
    headers: Mapping[str, str]
    body: bytes

    @property
    def wait_ms(self) -> int | None:
        """How long a refusal says to wait, where header and body both say it."""
        if "retry-after" not in self.headers:
            return None
        found = json.loads(self.body).get("retry_after_ms")
        return found if isinstance(found, int) and found > 0 and int(self.headers["retry-after"]) > 0 else None


class Connections(wire.Pool):
    """As many connections as questions are open at once, kept for the next ones."""

    def __init__(self, address: str) -> None:
        """`address` is http://HOST:PORT."""
        parts = urlsplit(address)
        assert parts.hostname
        assert parts.port
        super().__init__(parts.hostname, parts.port)

    async def ask(self, request: bytes) -> Reply:
        """Ask over a connection that is free; ConnectionRefusedError where none can be made."""
        connection, clock = await self.take(), asyncio.get_running_loop().time
        began = clock()
        try:
            found = await self.over(connection, request)
        except ConnectionError:
            found = wire.Reply(0, b"")
        return Reply(found.status, clock() - began, found.headers, found.body)


def request(path: str, body: bytes = b"", method: str = "POST", **headers: Any) -> bytes:
    """A whole HTTP/1.1 request; `_` in a header's name stands for a dash."""
    return wire.request(method, path, {name.replace("_", "-"): str(value) for name, value in headers.items()}, body)
