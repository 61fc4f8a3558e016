"""Errors as gRPC statuses with google.rpc details: one table from code to status.

The message goes in the status, everything a program can use in the details: `ErrorInfo` (code and reason), `BadRequest`
(the field), `RetryInfo` (when to try again), `QuotaFailure` (a client's own limit), `RequestInfo` (the id in our log).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from urllib.parse import quote

from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from service.core.errors import ServiceError, retry_after

#: Every code's status; a test checks that none is missing.
STATUS: Mapping[str, StatusCode] = {
    "invalid_request": StatusCode.INVALID_ARGUMENT,
    "invalid_frame": StatusCode.INVALID_ARGUMENT,
    "unsupported_media": StatusCode.INVALID_ARGUMENT,
    "not_acceptable": StatusCode.INVALID_ARGUMENT,
    "too_large": StatusCode.INVALID_ARGUMENT,
    "unauthenticated": StatusCode.UNAUTHENTICATED,
    "permission_denied": StatusCode.PERMISSION_DENIED,
    "not_found": StatusCode.NOT_FOUND,
    "conflict": StatusCode.ALREADY_EXISTS,
    "queue_full": StatusCode.RESOURCE_EXHAUSTED,
    "client_limit": StatusCode.RESOURCE_EXHAUSTED,
    "rate_limited": StatusCode.RESOURCE_EXHAUSTED,
    "deadline_exceeded": StatusCode.DEADLINE_EXCEEDED,
    "unavailable": StatusCode.UNAVAILABLE,
    "cancelled": StatusCode.CANCELLED,
    "unsupported": StatusCode.UNIMPLEMENTED,
    "internal": StatusCode.INTERNAL,
}

DOMAIN = "dmvfn"
#: gRPC's own name for a binary trailer that holds a google.rpc.Status.
DETAILS_KEY = "grpc-status-details-bin"
#: Bytes of a text: trailers share the room that HTTP/2 gives to headers, 8 KiB as clients have it by default.
MAX_TEXT = 1000
#: What a status's text is sent as it is; each other byte of it takes three (%XX, gRPC over HTTP/2: Status-Message).
_SENT_AS_IT_IS = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

#: What the caller sent is at fault, and `field` says where.
_FIELD_AT_FAULT = frozenset(code for code, status in STATUS.items() if status is StatusCode.INVALID_ARGUMENT)


def number(error: ServiceError) -> int:
    """Return the status as a number, as it travels."""
    return int(STATUS[error.code].value[0])


def text(error: ServiceError) -> str:
    """Return the message, no longer than a trailer should be."""
    return _shortened(error.message)


def status(error: ServiceError, request_id: str, client: str = "") -> Status:
    """Build the google.rpc.Status of an error, with its details."""
    message = Status(code=number(error), message=text(error))
    metadata = {"code": error.code, **({"field": _shortened(error.field)} if error.field else {})}
    message.details.add().Pack(
        details_pb2.ErrorInfo(reason=(error.reason or error.code).upper(), domain=DOMAIN, metadata=metadata)
    )
    message.details.add().Pack(details_pb2.RequestInfo(request_id=request_id))
    if error.code in _FIELD_AT_FAULT:
        violation = details_pb2.BadRequest.FieldViolation(field=_shortened(error.field or ""), description=text(error))
        message.details.add().Pack(details_pb2.BadRequest(field_violations=[violation]))
    seconds = retry_after(error)
    if seconds is not None:
        nanos = math.ceil(seconds * 1000) * 1_000_000
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        message.details.add().Pack(details_pb2.RetryInfo(retry_delay=delay))
    if error.code in ("client_limit", "rate_limited"):
        quota = details_pb2.QuotaFailure.Violation(subject=client or "client", description=text(error))
        message.details.add().Pack(details_pb2.QuotaFailure(violations=[quota]))
    return message


def _shortened(text: str) -> str:
    """Return the beginning of a text, of MAX_TEXT bytes at most as a trailer has them."""
    beginning = text[:MAX_TEXT]
    ends = itertools.accumulate(len(quote(letter, _SENT_AS_IT_IS)) for letter in beginning)
    return "".join(letter for letter, end in zip(beginning, ends, strict=True) if end <= MAX_TEXT)
