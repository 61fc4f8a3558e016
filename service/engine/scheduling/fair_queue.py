"""One deadline class of one bucket: clients take turns, and each client's own requests go by urgency."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from service.engine.scheduling.entry import Entry
from service.engine.scheduling.request_state import RequestState


class Key(NamedTuple):
    """Heap order: the number first; `seq` is unique, so entries are never compared."""

    key: float
    seq: int
    entry: Entry


@dataclass(slots=True)
class FairQueue:
    """One deadline class of one bucket: clients take turns, and each client's own are ordered by urgency."""

    clients: dict[str, list[Key]] = field(default_factory=dict)
    turns: deque[str] = field(default_factory=deque)

    def push(self, entry: Entry, key: float) -> None:
        """Add a request; `key` orders those of its client, lower first."""
        if entry.client not in self.clients:
            self.clients[entry.client] = []
            self.turns.append(entry.client)
        heapq.heappush(self.clients[entry.client], Key(key, entry.seq, entry))

    def peek(self) -> Entry | None:
        """Return the entry whose turn it is; those that wait no more are dropped on the way."""
        while self.turns:
            own = self.clients[self.turns[0]]
            while own and own[0].entry.state is not RequestState.READY:
                heapq.heappop(own)
            if own:
                return own[0].entry
            del self.clients[self.turns.popleft()]
        return None

    def pop(self) -> None:
        """Remove the entry that `peek` showed; then it is the next client's turn."""
        heapq.heappop(self.clients[self.turns[0]])
        self.turns.rotate(-1)
