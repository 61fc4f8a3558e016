"""One request as the queue sees it: its state, size, deadline, client, and the ways to answer it. No frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from service.core.bucket import Bucket
from service.core.types import Priority
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.request_state import RequestLife, RequestState


@dataclass(slots=True, eq=False)
class Entry(RequestLife):
    """A request of one queue. `route_options` are its ways to be answered, dearest first."""

    id: str
    bucket: Bucket
    deadline: float
    route_options: tuple[RouteOption, ...]
    needs_route: bool = False  #: its route is to be chosen before it may run; until then its options are estimates
    client: str = ""
    priority: Priority = Priority.LIVE
    nbytes: int = 0
    steps: float = 1  #: passes to count beside the costs of its options; 0 where these are whole
    waited: float = 0.0  #: seconds in a queue before this one
    is_trial: bool = False  #: whoever queued it before has decided that it is tried
    state: RequestState = field(init=False, default=RequestState.NEW)  #: changed by `enter` only
    enqueued_at: float = 0.0  #: set by `enqueue`
    usual_seconds: float = 0.0  #: predicted for its dearest way before its route was chosen; set by `enqueue`
    selection: RouteOption | None = None  #: how it is answered; set by `next_batch`
    seq: int = 0
    group: int = 0  #: its deadline class
    #: Set where it runs whatever its prediction says, so that the prediction is measured: its `admission.RefusalKind`.
    trial: tuple[Bucket, int, int] | None = None
    cost_limit: float = math.inf  #: seconds it may be taken for: what a trial is predicted to cost is in doubt

    @property
    def most_seconds(self) -> float:
        """Return the predicted seconds of its dearest route."""
        return min(self.route_options[0].cost, self.cost_limit)

    @property
    def least_seconds(self) -> float:
        """Return the predicted seconds of its cheapest route."""
        return min(self.route_options[-1].cost, self.cost_limit)
