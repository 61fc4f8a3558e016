"""The access log: one line, and one span, for each request, call or stream that has ended; one form for every edge."""

from __future__ import annotations

import logging
from typing import NamedTuple

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
    # A caller over its own limit is no failure of ours: objectives leave the callers' own faults out.
    "client_limit": Outcome.INVALID,
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


class AccessRecord(NamedTuple):
    """What an edge knows of a request, call or stream that has ended, beside its context."""

    title: str  #: the line's message
    span: str  #: the span's name
    endpoint: str  #: its path as a template, or its method
    outcome: Outcome
    seconds: float  #: from its arrival to its end
    error: str | None = None  #: the span's, where it differs from the context's code
    transport_notes: Notes | None = None  #: of line and span
    sizes: Notes | None = None  #: of the line alone: bytes in and out


def write(context: RequestContext, tracer: Tracer, record: AccessRecord) -> None:
    """Write the line of `record` and record its span; the line's level is ERROR where the outcome is our fault."""
    notes = {"endpoint": record.endpoint, **(record.transport_notes or {}), **context.notes}
    level = logging.ERROR if record.outcome is Outcome.ERROR else logging.INFO
    if _access.isEnabledFor(level):
        fields = {
            "request_id": context.request_id,
            "trace_id": context.trace.trace_id,
            "client": context.client,
            "outcome": record.outcome,
            "code": context.code,
            "duration_ms": round(record.seconds * 1000, 3),
            **(record.sizes or {}),
            **notes,
        }
        _access.log(level, "%s", record.title, extra=fields)
    error = record.error or context.code
    tracer.finished(context.trace, record.span, record.seconds, notes, context.stages, error)
