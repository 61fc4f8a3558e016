"""The one error tree. Every error carries a stable code; only an edge knows HTTP or gRPC statuses.

`field` names the input at fault where there is one ("previous", "steps", "inputs[0].shape").
`retry_after` is in seconds, set where trying again later can help.
"""

from __future__ import annotations

#: Told where trying again helps and the error does not know when, seconds.
RETRY_AFTER = 1.0


class ServiceError(Exception):
    """Base of everything a caller may be told. `code` is stable, `reason` is from a small closed set."""

    code = "internal"
    reason: str | None = None

    def __init__(
        self, message: str, *, field: str | None = None, retry_after: float | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason


class InvalidRequest(ServiceError):
    """A parameter or the body's structure is wrong; `field` names it."""

    code = "invalid_request"


class InvalidFrame(ServiceError):
    """An image could not be used: damaged, animated, unequal sizes, too narrow; `field` names it."""

    code = "invalid_frame"


class UnsupportedMedia(ServiceError):
    """The body's or an image's format is not one we read, or no acceptable answer format exists."""

    code = "unsupported_media"


class NotAcceptable(ServiceError):
    """None of the formats the caller accepts can be produced."""

    code = "not_acceptable"


class TooLarge(ServiceError):
    """More bytes, pixels or items than the limits allow; the message states the limit."""

    code = "too_large"


class Unauthenticated(ServiceError):
    """No API key, or one we do not know."""

    code = "unauthenticated"


class PermissionDenied(ServiceError):
    """The API key is known and lacks the scope that the message names."""

    code = "permission_denied"


class NotFound(ServiceError):
    """No such model, version, job or path."""

    code = "not_found"


class Conflict(ServiceError):
    """The request contradicts an earlier one, e.g. an idempotency key reused with another body."""

    code = "conflict"


class QueueFull(ServiceError):
    """The queue holds as many items or bytes as it may. `retry_after` is the predicted time to drain."""

    code = "queue_full"
    reason = "queue_full"


class ClientLimit(ServiceError):
    """This client has as much in flight as it may."""

    code = "client_limit"
    reason = "client_limit"


class RateLimited(ServiceError):
    """This client's rate of requests or its budget of FLOPs is used up; `retry_after` says until when."""

    code = "rate_limited"
    reason = "requests"


class DeadlineExceeded(ServiceError):
    """The deadline passed, or cannot be met (`reason` "unmeetable": refused before any work was done)."""

    code = "deadline_exceeded"
    reason = "deadline"


class Unavailable(ServiceError):
    """Not ready, draining, or the device or the queue server is lost; `reason` says which."""

    code = "unavailable"


class Cancelled(ServiceError):
    """The caller withdrew the request before it was answered."""

    code = "cancelled"


class Unsupported(ServiceError):
    """A valid request for something this server does not offer (a V2 extension that is not announced, say)."""

    code = "unsupported"


class Internal(ServiceError):
    """Our fault. The message tells nothing but the request id; the cause is in the log."""

    code = "internal"


#: Every code, for the edges' tables; a test checks that each table has exactly these.
CODES: frozenset[str] = frozenset(
    cls.code
    for cls in (
        InvalidRequest,
        InvalidFrame,
        UnsupportedMedia,
        NotAcceptable,
        TooLarge,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        Conflict,
        QueueFull,
        ClientLimit,
        RateLimited,
        DeadlineExceeded,
        Unavailable,
        Cancelled,
        Unsupported,
        Internal,
    )
)

#: What these tell of passes by itself.
_PASSING = frozenset(cls.code for cls in (QueueFull, ClientLimit, RateLimited, Unavailable))


def retry_after(error: ServiceError) -> float | None:
    """Return the seconds after which trying again can help; None where it cannot (`unmeetable` on an idle device)."""
    # A deadline that passed on the way passed because others were served: later there may be fewer.
    again = error.code in _PASSING or error.reason == DeadlineExceeded.reason
    return RETRY_AFTER if error.retry_after is None and again else error.retry_after
