"""What the OpenAPI document says of jobs."""

from __future__ import annotations

from typing import Any

from service.rest.formats.openapi import error_answers, option_schemas
from service.settings import Settings

JOBS = """\
The bodies of `/v1/predict`, or many frames of one size: repeat `frames` in a form, list them in JSON, or send them as
raw pixels with `X-Frame-Shape: COUNT,HEIGHT,WIDTH,3`. Item k of the job predicts what follows frames k and k+1.

`Idempotency-Key` makes a retry safe: the same key with the same request is the same job, with another request a
conflict. `webhook` (query) is told when the job has ended, if this server allows its address.
"""

_FACTS: dict[str, dict[str, Any]] = {
    "id": {"type": "string"},
    "state": {"type": "string", "enum": ["queued", "running", "done", "failed", "cancelled"]},
    "items": {"type": "integer", "description": "Predictions to make."},
    "done": {"type": "integer"},
    "progress": {"type": "number", "minimum": 0, "maximum": 1},
    "position": {"type": "integer", "description": "Items of its size ahead of it."},
    "predicted_wait_ms": {"type": "integer"},
    "created": {"type": "number", "description": "Seconds since the epoch."},
    "finished": {"type": "number"},
    "durable": {"type": "boolean", "description": "Whether it outlives this server's process."},
    "durability": {
        "type": "string",
        "enum": ["fsync:always", "fsync:everysec", "none"],
        "description": "What of Redis keeps it through a power cut; `fsync:everysec` may lose the last second.",
    },
    "note": {"type": "string"},
    "links": {"type": "object", "additionalProperties": {"type": "string"}},
    "error": {"type": "object", "description": "Why it failed: code, message, field, reason."},
}
_NEEDED = ["id", "state", "items", "done", "progress", "created", "durable", "links"]
_JOB = {"type": "object", "title": "Job", "properties": _FACTS, "required": _NEEDED}


def job_answers(*errors: str, creates: bool = False, has_events: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe the answers with a job's document, and its errors.

    `creates`: the operation may also answer 202; `has_events`: with events, too, and 204 to who has seen the last.
    """
    success: dict[str, Any] = {"description": "How it stands.", "content": {"application/json": {"schema": _JOB}}}
    answers: dict[int | str, dict[str, Any]] = {200: success, **error_answers(("unavailable", *errors))}
    if creates:
        answers[200] = {**success, "description": "Accepted before, under this Idempotency-Key."}
        location = {"Location": {"description": "Where to ask for it.", "schema": {"type": "string"}}}
        answers[202] = {**success, "description": "Accepted.", "headers": location}
    if has_events:
        answers[204] = {"description": "`Last-Event-ID` is of the job's last event."}
    return answers


def job_request(settings: Settings) -> dict[str, Any]:
    """Describe parameters and body of POST /v1/jobs."""
    schemas = {name: schema for name, schema in option_schemas(settings).items() if name != "deadline_ms"}
    binary, base64 = {"type": "string", "format": "binary"}, {"type": "string", "contentEncoding": "base64"}

    def body(frame: dict[str, Any]) -> dict[str, Any]:
        many = {"type": "array", "items": frame, "minItems": 2, "maxItems": settings.max_job_frames}
        properties = {"previous": frame, "current": frame, "frames": many, **schemas}
        return {"schema": {"type": "object", "additionalProperties": False, "properties": properties}}

    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
    parameters += [
        {"name": "webhook", "in": "query", "schema": {"type": "string", "format": "uri"}},
        {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}},
        {"name": "X-Frame-Shape", "in": "header", "schema": {"type": "string"}, "example": "3,16,16,3"},
    ]
    return {
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": body(binary),
                "application/json": body(base64),
                "application/octet-stream": {"schema": binary},
            },
        },
    }
