"""The life of one request on one device: its states, and which may follow which.

Pure. Knows nothing of frames, costs, threads or callers; who moves a request holds its queue's lock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class RequestState(enum.StrEnum):
    """Where a request is. The last five are ends: nothing follows them."""

    NEW = "new"  #: not in the queue yet
    ROUTING = "routing"  #: waits until its routes are chosen
    READY = "ready"  #: waits, may run
    RUNNING = "running"  #: on the device, or its answer is on the way to its caller
    DONE = "done"  #: has its frames
    FAILED = "failed"  #: has an error that is not about time: of its own, the device's, or because the service ends
    EXPIRED = "expired"  #: its deadline passed, or could no longer be met
    CANCELLED = "cancelled"  #: its caller left
    REFUSED = "refused"  #: was never admitted


#: The states of what the queue holds.
WAITING: Final = (RequestState.ROUTING, RequestState.READY)
#: The states of what has its outcome.
ENDS: Final = (
    RequestState.DONE,
    RequestState.FAILED,
    RequestState.EXPIRED,
    RequestState.CANCELLED,
    RequestState.REFUSED,
)
#: What may follow each state. A caller may leave, a deadline pass and a service end at any moment before the end.
TRANSITIONS: Final[Mapping[RequestState, tuple[RequestState, ...]]] = {
    RequestState.NEW: (RequestState.ROUTING, RequestState.READY, RequestState.REFUSED),
    RequestState.ROUTING: (
        RequestState.READY,
        RequestState.FAILED,
        RequestState.EXPIRED,
        RequestState.CANCELLED,
    ),
    RequestState.READY: (
        RequestState.RUNNING,
        RequestState.FAILED,
        RequestState.EXPIRED,
        RequestState.CANCELLED,
    ),
    RequestState.RUNNING: (
        RequestState.DONE,
        RequestState.FAILED,
        RequestState.EXPIRED,
        RequestState.CANCELLED,
    ),
    **dict.fromkeys(ENDS, ()),
}


class IllegalTransition(RuntimeError):
    """A request was to enter a state that cannot follow its own: a defect of the engine."""


class RequestLife:
    """A request's state, and the only way to change it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = RequestState.NEW

    def enter(self, state: RequestState) -> None:
        """Move on to `state`. Raises IllegalTransition where TRANSITIONS does not list it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"a request that is {self.state.value} cannot become {state.value}")
        self.state = state
