"""One request as the queue sees it: its size, deadline, client, and the ways to answer it. No frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    #: Set where it runs whatever its prediction says, so that the prediction is measured: its `admission.RefusalKind`.
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
