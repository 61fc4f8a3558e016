"""Every error, in the one form."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import APIRouter

from service.core import errors
from service.core.errors import CODES, QueueFull, ServiceError, Unavailable
from service.rest.app import build
from service.rest.transport.errors import MEANING, STATUS, BodyTimeout, problem
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import Small, a_failure

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)),
    key=lambda kind: kind.__name__,
)


def test_every_code_has_a_status_and_a_meaning() -> None:
    assert set(STATUS) == CODES
    assert set(MEANING) == CODES


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_request", 400),
        ("unauthenticated", 401),
        ("not_found", 404),
        ("not_acceptable", 406),
        ("conflict", 409),
        ("too_large", 413),
        ("unsupported_media", 415),
        ("invalid_frame", 422),
        ("queue_full", 429),
        ("client_limit", 429),
        ("cancelled", 499),
        ("internal", 500),
        ("unsupported", 501),
        ("unavailable", 503),
        ("deadline_exceeded", 504),
    ],
)
def test_a_code_keeps_its_status(code: str, status: int) -> None:
    assert STATUS[code] == status


@pytest.mark.parametrize("kind", KINDS)
async def test_every_error_is_answered_as_a_problem(
    small: Small, previous: Pixels, current: Pixels, kind: type[ServiceError]
) -> None:
    small.engine.failure = a_failure(kind, field="steps", reason="because")
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    answer = await small.http.post("/v1/predict", files=files, headers={"X-Request-Id": "abc"})
    assert answer.status_code == STATUS[kind.code]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    retry = body.pop("retry_after_ms", None)
    assert (retry == 1000) == (answer.status_code in (429, 503))
    assert body == {
        "type": f"/problems/{kind.code}",
        "title": MEANING[kind.code][0],
        "status": STATUS[kind.code],
        "detail": "the engine says no",
        "code": kind.code,
        "reason": "because",
        "field": "steps",
        "request_id": "abc",
        "error": "the engine says no",
    }


@pytest.mark.parametrize(("seconds", "chance", "header"), [(0.2, 0.0, 1), (0.2, 0.99, 2), (3.2, 0.0, 4), (40, 0.5, 45)])
def test_retry_after_is_rounded_up_and_spread(seconds: float, chance: float, header: int) -> None:
    answer = problem(QueueFull("full", retry_after=seconds), "id", chance=lambda: chance)
    assert answer.headers["retry-after"] == str(header)
    assert json.loads(bytes(answer.body))["retry_after_ms"] == int(seconds * 1000)


def test_an_unavailable_service_says_when_to_come_back_even_if_nobody_knows() -> None:
    assert int(problem(Unavailable("no device"), "id").headers["retry-after"]) >= 1


def test_a_slow_body_is_a_request_timeout() -> None:
    answer = problem(BodyTimeout("too slow"), "id")
    assert (answer.status_code, json.loads(bytes(answer.body))["reason"]) == (408, "body_timeout")


async def test_an_unexpected_failure_tells_its_request_id_and_nothing_else(
    small: Small, previous: Pixels, current: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    small.engine.failure = RuntimeError("the secret plans")
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    with caplog.at_level(logging.INFO):
        answer = await small.http.post("/v1/predict", files=files, headers={"X-Request-Id": "abc"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "abc" in answer.json()["detail"]
    assert "secret plans" not in answer.text
    logged = next(record for record in caplog.records if record.name == "service.rest")
    assert logged.exc_info is not None
    assert vars(logged)["request_id"] == "abc"
    assert small.metric("dmvfn_requests_total", transport="rest", endpoint="/v1/predict", outcome="error") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("GET", "/v1/predict/", 404, "not_found"),
        ("GET", "/v1/predict", 405, "invalid_request"),
        ("DELETE", "/v1/model", 405, "invalid_request"),
        ("PATCH", "/metrics", 405, "invalid_request"),
        ("GET", "/problems/nonsense", 404, "not_found"),
        ("GET", "/debug/batcher", 404, "not_found"),
        ("GET", "/v2/nothing", 404, "not_found"),
        ("GET", "/v22", 404, "not_found"),
    ],
)
async def test_the_frameworks_own_errors_have_the_same_form(
    small: Small, method: str, path: str, status: int, code: str
) -> None:
    answer = await small.http.request(method, path)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
    media_type = "application/json" if path.startswith("/v2/") else "application/problem+json"
    assert answer.headers["content-type"] == media_type
    if status == 405:
        assert answer.headers["allow"]
        assert answer.json()["detail"] == f"this path does not know this method; it knows {answer.headers['allow']}"


async def test_every_method_that_a_path_knows_is_listed(small: Small) -> None:
    """Starlette names those of the first route alone, and each method has its own."""
    import httpx

    routes = APIRouter()
    for method in ("POST", "GET", "DELETE"):
        routes.add_api_route("/thing/{name}", lambda: None, methods=[method], operation_id=method)
    transport = httpx.ASGITransport(build(small.parts, (routes,)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.put("/thing/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, DELETE, HEAD")


async def test_a_routers_typed_parameters_are_refused_in_the_same_form(small: Small) -> None:
    import httpx

    routes = APIRouter()

    @routes.get("/v1/typed")
    async def typed(count: int) -> int:
        return count

    transport = httpx.ASGITransport(build(small.parts, [routes]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/v1/typed", params={"count": "many"})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["field"]) == ("invalid_request", "count")


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_problem_type_leads_to_a_page(small: Small, code: str) -> None:
    page = (await small.http.get(f"/problems/{code}")).json()
    assert (page["code"], page["status"]) == (code, STATUS[code])
    assert page in (await small.http.get("/problems")).json()
