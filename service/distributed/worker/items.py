"""Defines an item as a worker sees it, and reads it from what Redis answers, whatever release wrote it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from service.distributed.broker.keys import whole
from service.distributed.worker.leases import Lease

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeasedItem:
    """One claimed entry. `left`: seconds to its deadline at the time of the claim; `delivery` counts from 1.

    `waited`: seconds from its arrival to the claim.
    """

    stream: str
    entry: str
    job: str
    index: int
    payload: str
    front: str
    left: float | None
    delivery: int
    waited: float = 0.0
    was_handed_back: bool = False  #: its worker before gave it up; else that one fell silent
    has_own_reply: bool = False  #: of a call: what becomes of it is told in a stream of its own

    @property
    def lease(self) -> Lease:
        """Return the key of this item's lease."""
        return self.stream, self.entry


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """An item and what the worker is to do with it: `verdict` is run, gone, done, orphan or lost (no frames)."""

    item: LeasedItem
    verdict: str
    task: bytes = b""
    previous: bytes = b""
    current: bytes = b""
    suspected: bool = False  #: a device was lost while it ran
    losses: int = 0  #: devices lost in runs of it that prove something


def read_work(item: LeasedItem, reply: list[Any], frames: list[bytes | None]) -> ClaimedWork:
    """Read the answer of BEGIN and an item's two frames."""
    verdict = reply[0].decode()
    previous, current = frames
    if verdict != "run":
        return ClaimedWork(item, verdict)
    if previous is None or current is None:
        return ClaimedWork(item, "lost")
    task = reply[1] if len(reply) > 1 else None  # Lua drops what is nil at the end
    losses = int(reply[2]) if len(reply) > 2 else -1
    return ClaimedWork(item, verdict, task or b"", previous, current, suspected=losses >= 0, losses=max(0, losses))


def read_item(stream: str, entry: str, flat: list[bytes], now: int, delivery: int) -> LeasedItem | None:
    """Read an entry as an item; None where another release wrote one that names no job: those are for its workers."""
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    if b"j" not in fields:
        log.warning("entry %s of %s names no job that this release knows; it is left alone", entry, stream)
        return None
    deadline = whole(fields.get(b"x"))
    return LeasedItem(
        stream=stream,
        entry=entry,
        job=fields[b"j"].decode(errors="replace"),
        index=whole(fields.get(b"k")),
        payload=fields.get(b"p", b"").decode(errors="replace"),
        front=fields.get(b"f", b"").decode(errors="replace"),
        left=(deadline - now) / 1000 if deadline else None,
        delivery=delivery,
        # An entry's id is the time of its arrival on the server's clock, which may have jumped since.
        waited=max(0.0, (now - whole(entry.partition("-")[0].encode())) / 1000),
        has_own_reply=fields.get(b"o") == b"1",
    )
