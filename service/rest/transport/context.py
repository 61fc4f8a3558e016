"""What the middleware learns of a request before any route sees it: id, caller, trace, and when it came."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from service.serving.byte_budget import ByteBudget, ByteHolding
from service.telemetry import tracing
from service.telemetry.request_context import RequestContext, choose_id
from service.telemetry.tracing import Tracer

_KEY = "dmvfn.context"


@dataclass(slots=True)
class Context(RequestContext):
    """One HTTP request's; routes add what the log line and the trace should show."""

    tracer: Tracer = field(kw_only=True)  #: for spans of a stream's parts, before its own
    holding: ByteHolding = field(kw_only=True)  #: the request's share of the memory for all
    host: str | None = None  #: how a trusted proxy was called; None: as the request's Host says
    prefix: str = ""  #: what a trusted proxy took from the beginning of the path, such as "/dmvfn"


def begin(
    request_id: str | None,
    traceparent: str | None,
    now: float,
    tracer: Tracer | None = None,
    holding: ByteHolding | None = None,
) -> Context:
    """Begin a context. Deadlines count from `now`."""
    trace = tracing.begin(traceparent)
    # Where a router runs without the middleware (in tests), nothing bounds its memory.
    holding = ByteBudget(2**62).open() if holding is None else holding
    return Context(choose_id(request_id), now, trace, tracer=tracer or Tracer(), holding=holding)


def put(scope: object, context: Context) -> None:
    """Keep it with the connection's ASGI scope."""
    assert isinstance(scope, dict)
    scope[_KEY] = context


def of(connection: HTTPConnection) -> Context:
    """Return the context of a request or websocket; a fresh one where a router runs without the middleware."""
    context = connection.scope.get(_KEY)
    if not isinstance(context, Context):
        context = begin(connection.headers.get("x-request-id"), connection.headers.get("traceparent"), time.monotonic())
        connection.scope[_KEY] = context
    return context
