"""What the door learns of a request before any route sees it: id, caller, trace, and when it came."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from service.serving.byte_budget import ByteBudget, ByteHolding
from service.serving.prediction import Caller, EncodedPrediction
from service.telemetry import tracing
from service.telemetry.tracing import Trace, Tracer

_KEY = "dmvfn.context"
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")


def _unbounded() -> ByteHolding:
    """Return a holding without a limit: where a router runs without the door, nothing bounds it."""
    return ByteBudget(2**62).open()


@dataclass(slots=True)
class Context:
    """One request's; routes add what the log line and the trace should show."""

    request_id: str
    began: float  #: on the state's clock, seconds: what deadlines count from
    trace: Trace
    tracer: Tracer = field(default_factory=Tracer)  #: for spans of a stream's parts, before its own
    client: str = ""  #: the API key's name; "" where no keys are set
    code: str | None = None  #: of the error it ended with
    stages: list[tuple[str, float]] = field(default_factory=list)  #: name, seconds
    notes: dict[str, str | int | float | bool] = field(default_factory=dict)  #: for log line and trace
    holding: ByteHolding = field(default_factory=_unbounded)  #: the request's share of the memory for all

    def caller(self, deadline: float | None) -> Caller:
        """Name whom the request's predictions are for."""
        return Caller(self.request_id, self.client, deadline, self.trace.traceparent, self.holding)

    def tell(self, value: EncodedPrediction) -> None:
        """Record how the answer came about, for headers, log line and trace."""
        self.stages += value.stages
        self.notes.update(value.facts())


def begin(request_id: str | None, traceparent: str | None, now: float) -> Context:
    """Begin a context. Keeps a request id that can stand in a header, a log line and a file name; else makes one."""
    sane = request_id is not None and _SANE_ID.fullmatch(request_id)
    return Context(request_id if sane and request_id else uuid.uuid4().hex, now, tracing.begin(traceparent))


def put(scope: object, context: Context) -> None:
    """Keep it with the connection's ASGI scope."""
    assert isinstance(scope, dict)
    scope[_KEY] = context


def of(connection: HTTPConnection) -> Context:
    """Return the context of a request or websocket; a fresh one where a router runs without the door (in tests)."""
    context = connection.scope.get(_KEY)
    if not isinstance(context, Context):
        context = begin(connection.headers.get("x-request-id"), connection.headers.get("traceparent"), time.monotonic())
        connection.scope[_KEY] = context
    return context
