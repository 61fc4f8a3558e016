"""The OpenAPI document: valid, complete, and true."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from openapi_schema_validator import validate
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.imaging.codec import FrameLimits, decode
from service.rest.app import build
from service.rest.formats.openapi import PREDICT_ERRORS
from service.rest.formats.params import NAMES
from service.rest.routes import jobs, video
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.unit.rest.small import Small, running


@pytest.fixture
async def document(small: Small) -> dict[str, Any]:
    made = (await small.http.get("/openapi.json")).json()
    assert isinstance(made, dict)
    return made


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_operation_has_its_own_id_and_a_summary(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] for _, _, operation in operations(document))


def test_every_error_answer_is_a_problem(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and path != "/healthz/ready":
                media_type = "application/json" if path.startswith("/v2") else "application/problem+json"
                assert list(answer["content"]) == [media_type], (path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_predict_lists_every_body_every_answer_every_error(document: dict[str, Any]) -> None:
    predict = document["paths"]["/v1/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
        "application/octet-stream",
    }
    assert set(predict["responses"]["200"]["content"]) == {
        *("image/png", "image/jpeg", "image/webp", "image/x-portable-pixmap"),
        *("application/octet-stream", "multipart/mixed", "application/json"),
    }
    statuses = {"200", "400", "401", "403", "404", "406", "408", "413", "415", "422", "429", "500", "503", "504"}
    assert set(predict["responses"]) == statuses
    for kind in ("multipart/form-data", "application/json"):
        properties = predict["requestBody"]["content"][kind]["schema"]["properties"]
        assert set(properties) == {"previous", "current", *NAMES}
    query = {parameter["name"] for parameter in predict["parameters"] if parameter["in"] == "query"}
    assert query == set(NAMES)


@pytest.mark.parametrize(
    ("operation", "codes"),
    [("predict", PREDICT_ERRORS), ("createJob", jobs.CREATE_ERRORS), ("convertVideo", ("queue_full", "client_limit"))],
)
async def test_every_error_code_of_a_status_is_told_with_an_example(operation: str, codes: tuple[str, ...]) -> None:
    async with running() as small:
        kept = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        app = build(small.parts, [video.router(small.parts)], jobs=kept)
        await kept.close()
    document = app.openapi()
    answers = next(each["responses"] for _, _, each in operations(document) if each["operationId"] == operation)
    examples = [
        (status, code, example["value"])
        for status, answer in answers.items()
        for code, example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).items()
    ]
    assert {*codes, "internal", "unauthenticated"} <= {code for _, code, _ in examples}
    for status, code, value in examples:
        validate(value, document["components"]["schemas"]["Problem"])
        assert (int(status), code) == (value["status"], value["code"])
        assert f"`{code}`" in answers[status]["description"]


@pytest.mark.parametrize("example", ["next", "three"])
async def test_the_examples_work_as_they_stand(small: Small, document: dict[str, Any], example: str) -> None:
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    body = content["examples"][example]["value"]
    answer = await small.http.post("/v1/predict", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == 200
    frames = answer.json()["frames"]
    assert len(frames) == body.get("steps", 1)
    assert decode(base64.b64decode(frames[0]["data"]), FrameLimits(), "answer").width == 16


async def test_a_json_answer_is_what_its_schema_says(small: Small, document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    body = {**content["examples"]["next"]["value"], "maps": "float16", "route": "sample"}
    answer = (await small.http.post("/v1/predict", json=body, headers={"Accept": "application/json"})).json()
    schema = document["components"]["schemas"]["Prediction"]
    validate(answer, schema)
    assert set(schema["required"]) == set(answer)


async def test_a_key_is_asked_for_only_where_keys_are_set(document: dict[str, Any]) -> None:
    assert "securitySchemes" not in document["components"]
    async with running(Settings(api_keys=(("alice", "alice-key-1"),))) as small:
        secured = (await small.http.get("/openapi.json")).json()
    assert secured["paths"]["/v1/predict"]["post"]["security"] == [{"apiKey": []}]
    assert "security" not in secured["paths"]["/metrics"]["get"]
