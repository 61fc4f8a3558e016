"""What can go wrong, as one tree. `code` is the service's own, stable word for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class DmvfnError(Exception):
    """Base of everything this package raises for a call.

    `field` names the input at fault, `retry_after` is in seconds, `request_id` is what the service's log knows it by.
    """

    code = "unknown"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.field = field
        self.reason = reason
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        where = f" ({self.field})" if self.field and self.field not in self.message else ""
        return f"{self.message}{where} [{self.code}]"


class InvalidInput(DmvfnError):
    """The call itself is wrong: correct it. Codes invalid_request, invalid_frame, unsupported_media, too_large, ..."""


class Unauthenticated(DmvfnError):
    """No API key, or one the service does not know."""


class PermissionDenied(DmvfnError):
    """The API key lacks the scope that the message names."""


class NotFound(DmvfnError):
    """No such job, or not this key's."""


class Busy(DmvfnError):
    """Refused for now, after all tries; come back after `retry_after`.

    Codes queue_full, client_limit, rate_limited, unavailable.
    """


class DeadlineExceeded(DmvfnError):
    """The time given was not enough. `reason` "unmeetable": refused before any work was done."""


class ConnectionFailed(DmvfnError):
    """The service could not be reached, or the connection broke."""

    code = "connection_failed"


class ServiceFailed(DmvfnError):
    """The service's fault, or an answer that is none of its own."""


_KINDS: dict[str, type[DmvfnError]] = {
    "invalid_request": InvalidInput,
    "invalid_frame": InvalidInput,
    "unsupported_media": InvalidInput,
    "unsupported": InvalidInput,
    "not_acceptable": InvalidInput,
    "too_large": InvalidInput,
    "conflict": InvalidInput,
    "unauthenticated": Unauthenticated,
    "permission_denied": PermissionDenied,
    "not_found": NotFound,
    "queue_full": Busy,
    "client_limit": Busy,
    "rate_limited": Busy,
    "unavailable": Busy,
    "deadline_exceeded": DeadlineExceeded,
}


def of(code: str, message: str, **details: Any) -> DmvfnError:
    """The error of a code; an unknown one is the service's fault."""
    return _KINDS.get(code, ServiceFailed)(message, code=code, **details)


def of_problem(status: int, problem: Mapping[str, Any] | None, retry_after: float | None) -> DmvfnError:
    """The error of an HTTP answer; `problem` is its problem+json, None where it has none (a proxy's answer, say)."""
    if problem is None or "code" not in problem:
        code = {
            401: "unauthenticated",
            403: "permission_denied",
            404: "not_found",
            413: "too_large",
            429: "queue_full",
            504: "deadline_exceeded",
        }
        found = code.get(status, "unavailable" if status in (502, 503) else "internal")
        return of(found, f"HTTP status {status}, not from the service itself", retry_after=retry_after)
    wait_ms = problem.get("retry_after_ms")
    if isinstance(wait_ms, (int, float)) and 0 <= wait_ms < math.inf:
        retry_after = wait_ms / 1000
    return of(
        str(problem["code"]),
        str(problem.get("detail") or problem.get("title") or f"HTTP status {status}"),
        field=problem.get("field"),
        reason=problem.get("reason"),
        retry_after=retry_after,
        request_id=problem.get("request_id"),
    )
