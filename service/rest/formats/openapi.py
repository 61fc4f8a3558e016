"""What the OpenAPI document says beyond what the code shows: bodies, answers, errors, examples."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.core.types import BLOCKS, MAX_SEED, SCALES, VERSION_NAME, Frame, Method, Quality
from service.imaging.codec import ImageFormat, encode
from service.rest.formats.params import Maps
from service.rest.formats.response import PICTURES
from service.rest.formats.schemas import Problem
from service.rest.transport.errors import MEANING, MEDIA_TYPE, STATUS, media_type_at
from service.settings import Settings

PREDICT = """\
Send two consecutive frames of one size; get the frame that follows.

Frames are PNG, JPEG, WebP, BMP, PPM or PGM files in a form or (base64) in JSON, or raw RGB pixels, one frame after
the other, with their shape in `X-Frame-Shape`. `Accept` chooses the answer: one picture, raw pixels, JSON, or
`multipart/mixed`; several `steps` and `maps` need one of the last two (or raw pixels, for steps).
Options stand in the query, in the form, or in the JSON object, each once.
"""

#: A frame that can be sent as it is: 16x16, black.
_PNG = encode(Frame(np.zeros((16, 16, 3), np.uint8)), ImageFormat.PNG)
_EXAMPLE = base64.b64encode(_PNG).decode("ascii")
_BINARY = {"type": "string", "format": "binary"}

#: What any guarded route may answer.
COMMON_ERRORS = ("unauthenticated", "not_found", "internal")
PREDICT_ERRORS = (
    *("invalid_request", "unauthenticated", "not_acceptable", "too_large", "unsupported_media", "invalid_frame"),
    *("not_found", "queue_full", "client_limit", "internal", "unavailable", "deadline_exceeded"),
)


def option_schemas(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return one schema for each option."""
    method = {
        "type": "string",
        "enum": list(Method),
        "description": "What predicts: `dmvfn`, the network (also where `route`, `seed`, `blocks`, `scale` or `maps` "
        "is named); `flow`, several classical motions weighed per pixel; `mix`, those and the network. Where none is "
        "named, `default_method` of GET /v1/model.",
    }
    route = {
        "type": "string",
        "pattern": f"^(auto|full|sample|budget|(?=.*1)[01]{{{BLOCKS}}})$",
        "default": "auto",
        "description": "Which blocks run: `auto`, `full`, `sample` (with `seed`), `budget` (with `blocks`), or "
        "nine digits 0 and 1, first block first.",
    }
    scale = {
        "type": "number",
        "enum": list(SCALES),
        "default": 1.0,
        "description": "Size at which motion is estimated, of `dmvfn` and of quality `fast`; below 1 for large frames.",
    }
    moments = {
        "type": "string",
        "pattern": r"^\s*[0-9]{1,6}(\.[0-9]{1,9})?\s*(,\s*[0-9]{1,6}(\.[0-9]{1,9})?\s*)*$",
        "example": "0.5,1,2.7",
        "description": f"In place of `steps`: when frames are shown, in frame intervals after the current one, above 0 "
        f"and at most {settings.max_steps}; several separated by commas (in JSON also a number, or a list of them). "
        "The motion of one prediction is carried on to each: many frames take little longer than one.",
    }
    quality = _word(
        Quality,
        "exact",
        "`adaptive`: blocks, or the network, may be left out to be in time. `fast`: `flow` by its quickest head.",
    )
    maps = _word(Maps, "none", "Flow (HxWx4, pixels) and mask (a mixture's: confidence; HxW), as these floats.")
    deadline = "Milliseconds from arrival to answer; also as header `X-Request-Timeout-Ms`."
    return {
        "method": method,
        "version": {
            "type": "string",
            "pattern": f"^{VERSION_NAME.pattern}$",
            "description": "Which of the loaded versions of the weights predicts; without one the default.",
        },
        "route": route,
        "seed": _whole(0, MAX_SEED, "For route `sample`; without one a seed is drawn and reported."),
        "blocks": _whole(1, BLOCKS, "For route `budget`: the most blocks to run."),
        "steps": _whole(1, settings.max_steps, "How many future frames.", default=1),
        "t": moments,
        "scale": scale,
        "quality": quality,
        "deadline_ms": _whole(1, settings.max_deadline_ms, deadline, default=settings.default_deadline_ms),
        "image_quality": _whole(1, 100, "Of a JPEG (default 95) or WebP (default lossless) answer."),
        "maps": maps,
    }


def _whole(minimum: int, maximum: int, description: str, **default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, **default, "description": description}


def _word(words: Iterable[str], default: str, description: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words), "default": default, "description": description}


def predict_request(settings: Settings) -> dict[str, Any]:
    """Describe parameters and body of POST /v1/predict."""
    schemas = option_schemas(settings)
    body = {"type": "object", "required": ["previous", "current"], "additionalProperties": False}
    picture = {"type": "string", "contentEncoding": "base64", "description": "An image file in base64."}
    parameters = [
        {"name": name, "in": "query", "schema": schema, "description": schema["description"]}
        for name, schema in schemas.items()
    ]
    form = {
        "schema": {**body, "properties": {"previous": _BINARY, "current": _BINARY, **schemas}},
        "encoding": {"previous": {"contentType": "image/*"}, "current": {"contentType": "image/*"}},
    }
    pair = {"previous": _EXAMPLE, "current": _EXAMPLE}
    json = {
        "schema": {**body, "properties": {"previous": picture, "current": picture, **schemas}},
        "examples": {
            "next": {"summary": "The next frame", "value": pair},
            "three": {
                "summary": "Three future frames, at most two blocks each",
                "value": {**pair, "steps": 3, "blocks": 2},
            },
        },
    }
    raw = {"schema": _BINARY, "example": "two frames of HEIGHT x WIDTH x 3 bytes, RGB, one after the other"}
    content = {"multipart/form-data": form, "application/json": json, "application/octet-stream": raw}
    return {
        "parameters": parameters + _request_headers(settings),
        "requestBody": {"required": True, "content": content},
    }


def _request_headers(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "schema": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
            "description": f"As `deadline_ms`; one of the two. More than {settings.max_deadline_ms} counts as that.",
        },
        {
            "name": "X-Frame-Shape",
            "in": "header",
            "schema": {"type": "string"},
            "description": "With raw pixels: `2,HEIGHT,WIDTH,3`, or `HEIGHT,WIDTH`.",
            "example": "2,16,16,3",
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "schema": {"type": "string", "maxLength": 128},
            "description": "Returned, and shown in the log; one is made where none is given.",
        },
        {
            "name": "traceparent",
            "in": "header",
            "schema": {"type": "string"},
            "description": "W3C trace context.",
            "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
    ]


def predict_answers() -> dict[int | str, dict[str, Any]]:
    """Describe the answers of POST /v1/predict, good and bad."""
    content: dict[str, Any] = {format.media_type: {"schema": _BINARY} for format in PICTURES}
    content["application/octet-stream"] = {"schema": _BINARY}
    content["multipart/mixed"] = {"schema": {"type": "string"}}
    content["application/json"] = {
        "schema": {"$ref": "#/components/schemas/Prediction"},
        "example": {
            "id": "4f1c0f7e8a274d0c9a1b5a0f0c3d2e1f",
            "method": "dmvfn",
            "model": "start",
            "width": 16,
            "height": 16,
            "flops": 10000000,
            "seed": None,
            "shortened": False,
            "batch_size": 1,
            "timings_ms": {"queue": 0.1, "route": 2.0, "blocks": 11.0},
            "frames": [
                {"step": 1, "media_type": "image/png", "data": _EXAMPLE, "route": "100100100", "flops": 10000000}
            ],
        },
    }
    headers = {
        "X-Request-Id": "The request's id.",
        "X-Dmvfn-Method": "What predicted: dmvfn, flow or mix.",
        "X-Dmvfn-Shares": "Of a mixture: the mean share of each candidate, such as projected=0.412,carried=0.201.",
        "X-Dmvfn-Route": "Blocks that ran, nine digits (all 0: without the network); one word a step, with commas.",
        "X-Dmvfn-Flops": "Floating-point operations of all steps.",
        "X-Dmvfn-T": "With `t`: the moment of each frame, in frame intervals after the current one.",
        "X-Dmvfn-Cut": "With `t`: 1 where the pair shows two scenes; the current frame is then repeated.",
        "X-Dmvfn-Model": "Version of the weights.",
        "X-Dmvfn-Batch-Size": "Requests that ran together.",
        "X-Dmvfn-Seed": "Where the route was sampled.",
        "X-Dmvfn-Shortened": "1 where an adaptive request got fewer blocks, or none, to meet the deadline.",
        "X-Frame-Shape": "With raw pixels: [STEPS,]HEIGHT,WIDTH,3.",
        "Server-Timing": "Milliseconds of decode, queue, route, blocks, of a mixture's motion and mixing, encode.",
        "traceparent": "W3C trace context of this request.",
    }
    ok = {
        "description": "The predicted frame or frames.",
        "content": content,
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()},
    }
    answers: dict[int | str, dict[str, Any]] = {200: ok}
    answers.update(error_answers(PREDICT_ERRORS))
    answers[408] = _error("The body came too slowly.", "invalid_request", 408)
    return answers


def error_answers(codes: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """Describe the problem answers for these codes, by status: every code of a status with an example of its own."""
    answers: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = STATUS[code]
        answer = _error(MEANING[code][1], code, status)
        answers[status] = _joined(answers[status], answer) if status in answers else answer
    return answers


def _error(description: str, code: str, status: int) -> dict[str, Any]:
    example = {
        "type": f"/problems/{code}",
        "title": MEANING[code][0],
        "status": status,
        "detail": description,
        "code": code,
        "request_id": "4f1c0f7e8a274d0c9a1b5a0f0c3d2e1f",
        "error": description,
    }
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {code: {"summary": MEANING[code][0], "value": example}},
    }
    answer: dict[str, Any] = {"description": f"`{code}`: {description}", "content": {MEDIA_TYPE: content}}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Join two answers of one status, each code once."""
    examples, more = one["content"][MEDIA_TYPE]["examples"], other["content"][MEDIA_TYPE]["examples"]
    if more.keys() <= examples.keys():
        return one
    content = {**one["content"][MEDIA_TYPE], "examples": examples | more}
    return {**one, "description": f"{one['description']} {other['description']}", "content": {MEDIA_TYPE: content}}


def prediction_schema() -> dict[str, Any]:
    """Return the schema of the JSON answer of POST /v1/predict."""
    number, whole, text = {"type": "number"}, {"type": "integer"}, {"type": "string"}
    array = {
        "type": "object",
        "description": "Little-endian floats, row by row, in base64.",
        "properties": {"dtype": text, "shape": {"type": "array", "items": whole}, "data": text},
        "required": ["dtype", "shape", "data"],
    }
    shares = {"type": "object", "additionalProperties": number}
    frame = {"step": whole, "media_type": text, "data": text, "route": text, "flops": whole}
    properties = {
        "id": text,
        "method": {"type": "string", "enum": list(Method)},
        "model": text,
        "width": whole,
        "height": whole,
        "flops": whole,
        "seed": {"type": ["integer", "null"]},
        "shortened": {"type": "boolean"},
        "batch_size": whole,
        "timings_ms": {"type": "object", "additionalProperties": number},
        "frames": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {**frame, "shares": shares, "flow": array, "mask": array, "confidence": array},
                "required": list(frame),
            },
        },
    }
    return {"type": "object", "title": "Prediction", "properties": properties, "required": list(properties)}


def document(app: FastAPI, has_keys: bool) -> dict[str, Any]:
    """Build the whole document: every operation with its error answers, and none of FastAPI's own error form."""
    schema = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = Problem.model_json_schema()
    schemas["Prediction"] = prediction_schema()
    if has_keys:
        schema["components"]["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        needs_key = path.startswith(("/v1/", "/v2", "/debug/")) and not path.startswith("/v2/health")
        for operation in operations.values():
            _finish(operation, path, needs_key, has_keys)
    return schema


def _finish(operation: dict[str, Any], path: str, needs_key: bool, has_keys: bool) -> None:
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422", "")):
        del answers["422"]
        _add(answers, "invalid_request")
    _add(answers, "internal")
    if "{" in path or path.startswith("/debug/"):
        _add(answers, "not_found")
    if needs_key:
        for code in ("unauthenticated", "permission_denied", "rate_limited"):
            _add(answers, code)
        if has_keys:
            operation["security"] = [{"apiKey": []}]
    media_type = media_type_at(path)
    for answer in answers.values():
        content = answer.get("content", {})
        if MEDIA_TYPE in content:
            answer["content"] = {media_type: content[MEDIA_TYPE]}


def _add(answers: dict[str, Any], code: str) -> None:
    for status, answer in error_answers((code,)).items():
        present = answers.get(str(status))
        answers[str(status)] = answer if present is None else _joined(present, answer)
