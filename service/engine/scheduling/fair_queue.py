"""One deadline class of one bucket: clients take turns, and each client's own requests go by urgency."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from service.core.types import Priority
from service.engine.scheduling.cost_model import Bucket, RouteOption


@dataclass(slots=True, eq=False)
class Entry:
    """A waiting request. `rungs` are its ways to be answered, dearest first; `routed` says they are final."""

    id: str
    bucket: Bucket
    deadline: float
    rungs: tuple[RouteOption, ...]
    routed: bool = True
    client: str = ""
    priority: Priority = Priority.LIVE
    nbytes: int = 0
    steps: int = 1
    enqueued: float = 0.0  #: set by `put`
    chosen: RouteOption | None = None  #: set by `take`
    seq: int = 0
    group: int = 0  #: its deadline class
    waiting: bool = False
    #: Set where it runs whatever its prediction says, so that the prediction is measured: its `admission.Kind`.
    trial: tuple[Bucket, int, int] | None = None
    cost_limit: float = math.inf  #: seconds it may be taken for: what a trial is predicted to cost is in doubt

    @property
    def wanted(self) -> float:
        """Return the seconds of its dearest rung."""
        return min(self.rungs[0].cost, self.cost_limit)

    @property
    def least(self) -> float:
        """Return the seconds of its cheapest rung."""
        return min(self.rungs[-1].cost, self.cost_limit)


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
        if entry.client not in self.clients:
            self.clients[entry.client] = []
            self.turns.append(entry.client)
        heapq.heappush(self.clients[entry.client], Key(key, entry.seq, entry))

    def peek(self) -> Entry | None:
        """Return the entry whose turn it is."""
        while self.turns:
            own = self.clients[self.turns[0]]
            while own and not own[0].entry.waiting:
                heapq.heappop(own)
            if own:
                return own[0].entry
            del self.clients[self.turns.popleft()]
        return None

    def pop(self) -> None:
        """Take the entry that `peek` showed; then it is the next client's turn."""
        heapq.heappop(self.clients[self.turns[0]])
        self.turns.rotate(-1)
