"""Errors as RFC 9457 problem+json: one table from code to status, one form for every error that HTTP can answer.

The member "error" repeats the detail for clients of the Open Inference Protocol, which look for nothing else.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from service.core.errors import CODES, InvalidRequest, NotFound, ServiceError, retry_after
from service.rest.transport import context

#: Every code's status; a test checks that none is missing. 499 is only logged: nobody is there to read it.
STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "not_acceptable": 406,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media": 415,
    "invalid_frame": 422,
    "queue_full": 429,
    "client_limit": 429,
    "rate_limited": 429,
    "cancelled": 499,
    "internal": 500,
    "unsupported": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}

#: Title, and what a caller can do; shown at /problems/CODE.
MEANING: Mapping[str, tuple[str, str]] = {
    "invalid_request": (
        "Invalid request",
        "A parameter or the body's structure is wrong; `field` names it.",
    ),
    "unauthenticated": ("API key needed", "Send `Authorization: Bearer KEY` with a key this server knows."),
    "permission_denied": ("Permission denied", "This API key lacks the scope that the detail names."),
    "not_found": ("Not found", "There is no such path, model, version or job here."),
    "not_acceptable": (
        "Not acceptable",
        "No answer can be made in a form that `Accept` allows.",
    ),
    "conflict": ("Conflict", "The request contradicts an earlier one, such as an idempotency key with another body."),
    "too_large": ("Too large", "More bytes, pixels or items than allowed; the detail states the limit."),
    "unsupported_media": ("Unsupported media type", "The body's or an image's format is not read here."),
    "invalid_frame": ("Invalid frame", "An image could not be used: damaged, animated, transparent, unequal in size."),
    "queue_full": ("Queue full", "The server has as much waiting as it may. Try again after `retry_after_ms`."),
    "client_limit": ("Client limit", "This API key has as much in flight as it may. Try again after `retry_after_ms`."),
    "rate_limited": (
        "Rate limited",
        "This API key has used up its requests or its FLOPs (`reason`). Try again after `retry_after_ms`.",
    ),
    "cancelled": ("Cancelled", "The caller left before the answer. Nothing was computed if it was still waiting."),
    "internal": ("Internal error", "Our fault. The log has the cause under this request id."),
    "unsupported": ("Not supported", "A valid request for something this server does not offer."),
    "unavailable": ("Unavailable", "Starting, draining, or without a device. Try again after `retry_after_ms`."),
    "deadline_exceeded": (
        "Deadline exceeded",
        "The deadline passed, or (reason `unmeetable`) could not be met. Allow more time, or quality=adaptive.",
    ),
}

#: What Allow may list; HEAD is known wherever GET is.
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MEDIA_TYPE = "application/problem+json"
#: Of the same document below /v2: KServe's client reads `error` from nothing else.
V2_MEDIA_TYPE = "application/json"


def media_type_at(path: str) -> str:
    """Return the media type of the problem documents of a path."""
    return V2_MEDIA_TYPE if (path + "/").startswith("/v2/") else MEDIA_TYPE


class BodyTimeout(InvalidRequest):
    """The body came too slowly. The one error whose status (408) its code does not tell."""

    reason = "body_timeout"


def status_of(error: ServiceError) -> int:
    """Return the HTTP status of an error."""
    return 408 if isinstance(error, BodyTimeout) else STATUS[error.code]


def problem(
    error: ServiceError,
    request_id: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    media_type: str = MEDIA_TYPE,
    chance: Callable[[], float] = random.random,
) -> Response:
    """Answer with `error`. Retry-After has whole seconds: rounded up, and spread so that not all return at once."""
    status = status or status_of(error)
    wait = retry_after(error)
    body: dict[str, Any] = {
        "type": f"/problems/{error.code}",
        "title": MEANING[error.code][0],
        "status": status,
        "detail": error.message,
        "code": error.code,
        "reason": error.reason,
        "field": error.field,
        "request_id": request_id,
        "retry_after_ms": None if wait is None else math.ceil(wait * 1000),
        "error": error.message,
    }
    fields = dict(headers or {})
    if wait is not None:
        fields["Retry-After"] = str(max(1, math.ceil(wait + chance() * max(1.0, wait / 4))))
    if status == 401:
        fields["WWW-Authenticate"] = "Bearer"
    # ASCII only: a field's name may hold what no encoding can carry (half a surrogate pair, from JSON).
    content = json.dumps({key: value for key, value in body.items() if value is not None})
    return Response(content, status, fields, media_type)


def last_answer(status: int, why: str) -> bytes:
    """Write a whole answer for a client that is heard no more; `why` is what was wrong with its request."""
    answer = problem(InvalidRequest(why), "", status=status, headers={"Connection": "close"})
    head = [b"HTTP/1.1 %d \r\n" % status]
    head += [b"%s: %s\r\n" % (name, value) for name, value in answer.raw_headers]
    return b"".join(head) + b"\r\n" + bytes(answer.body)


def install(app: FastAPI) -> None:
    """Answer every error of ours, of Starlette and of FastAPI's validation in this one form."""

    def handle(
        convert: Callable[[Request, Any], tuple[ServiceError, int | None, Mapping[str, str] | None]],
    ) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handler(request: Request, error: Exception) -> Response:
            service_error, status, headers = convert(request, error)
            request_context = context.of(request)
            request_context.code = service_error.code
            return problem(
                service_error,
                request_context.request_id,
                status=status,
                headers=headers,
                media_type=media_type_at(request.url.path),
            )

        return handler

    app.add_exception_handler(ServiceError, handle(lambda _, error: (error, None, None)))
    app.add_exception_handler(HTTPException, handle(_of_http))
    app.add_exception_handler(RequestValidationError, handle(lambda _, error: (_of_validation(error), None, None)))


def _of_http(request: Request, error: HTTPException) -> tuple[ServiceError, int | None, Mapping[str, str] | None]:
    if error.status_code == 404:
        return NotFound("there is nothing at this path"), None, error.headers
    if error.status_code == 405:
        methods = _methods(request)
        why = f"this path does not know this method; it knows {methods}"
        return InvalidRequest(why), 405, {**(error.headers or {}), "Allow": methods}
    return InvalidRequest(str(error.detail)), error.status_code, error.headers


def _methods(request: Request) -> str:
    """List what the path knows, as Allow does: each method has a route of its own, and Starlette tells the first's."""

    def is_known(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    methods = [method for method in _METHODS if is_known(method)]
    return ", ".join([*methods, "HEAD"] if "GET" in methods else methods)


def _of_validation(error: RequestValidationError) -> ServiceError:
    first = error.errors()[0]
    where, *path = [str(part) for part in first["loc"]] or ["request"]
    return InvalidRequest(str(first["msg"]), field=".".join(path) or where)


def router() -> APIRouter:
    """Serve the pages that a problem's `type` points to."""
    routes = APIRouter(tags=["errors"])

    @routes.get("/problems", operation_id="listProblems", summary="Every error code")
    async def problems() -> JSONResponse:
        return JSONResponse([_page(code) for code in sorted(CODES)])

    @routes.get("/problems/{code}", operation_id="getProblem", summary="What one error code means")
    async def one(code: str) -> JSONResponse:
        if code not in CODES:
            raise NotFound("there is no such error code", field="code")
        return JSONResponse(_page(code))

    return routes


def _page(code: str) -> dict[str, Any]:
    title, meaning = MEANING[code]
    return {"type": f"/problems/{code}", "code": code, "status": STATUS[code], "title": title, "meaning": meaning}
