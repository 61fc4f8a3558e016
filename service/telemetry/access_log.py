"""The access log: one line, and one span, for each request, call or stream that has ended; one form for every edge."""

from __future__ import annotations

import logging

from service.telemetry.metrics import Outcome
from service.telemetry.request_context import Notes, RequestContext
from service.telemetry.tracing import Tracer

_access = logging.getLogger("service.access")

#: The reason of a stream's end whose client fell silent: it left, and missed no deadline of ours.
IDLE = "idle"
#: Which outcome each error code counts as; a test checks that it has every code of service.core.errors.
OUTCOMES: dict[str, Outcome] = {
    "invalid_request": Outcome.INVALID,
    "invalid_frame": Outcome.INVALID,
    "unsupported_media": Outcome.INVALID,
    "not_acceptable": Outcome.INVALID,
    "too_large": Outcome.INVALID,
    "unauthenticated": Outcome.INVALID,
    "permission_denied": Outcome.INVALID,
    "not_found": Outcome.INVALID,
    "conflict": Outcome.INVALID,
    "unsupported": Outcome.INVALID,
    "queue_full": Outcome.REJECTED,
    "client_limit": Outcome.REJECTED,
    # A caller over its own limit is no failure of ours: objectives leave the callers' own faults out.
    "rate_limited": Outcome.INVALID,
    "unavailable": Outcome.REJECTED,
    "deadline_exceeded": Outcome.DEADLINE,
    "cancelled": Outcome.CANCELLED,
    "internal": Outcome.ERROR,
}


def outcome_of(code: str | None, reason: str | None = None) -> Outcome:
    """Return how a request or stream ended that had the error `code`, or none; `reason` is that error's."""
    if reason == IDLE:
        return Outcome.CANCELLED
    return Outcome.OK if code is None else OUTCOMES[code]


def write(
    context: RequestContext,
    tracer: Tracer,
    *,
    title: str,
    span: str,
    endpoint: str,
    outcome: Outcome,
    seconds: float,
    error: str | None = None,
    about: Notes | None = None,
    sizes: Notes | None = None,
) -> None:
    """Write the line and record the span of what took `seconds`. `title` is the line's message, `span` the span's name.

    `about`: the transport's own facts for both, `sizes` for the line alone. `error`: the span's, where it differs from
    the context's code. ERROR for what is our fault.
    """
    notes = {"endpoint": endpoint, **(about or {}), **context.notes}
    level = logging.ERROR if outcome is Outcome.ERROR else logging.INFO
    if _access.isEnabledFor(level):
        record = {
            "request_id": context.request_id,
            "trace_id": context.trace.trace_id,
            "client": context.client,
            "outcome": outcome.value,
            "code": context.code,
            "duration_ms": round(seconds * 1000, 3),
            **(sizes or {}),
            **notes,
        }
        _access.log(level, "%s", title, extra=record)
    tracer.finished(context.trace, span, seconds, notes, context.stages, error or context.code)
