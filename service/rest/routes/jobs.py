"""POST /v1/jobs and what follows it: state, waiting, events, results, cancelling. Whoever keeps the jobs."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import InvalidRequest
from service.rest.formats import job_body, job_openapi, job_results, params
from service.rest.routes.job_events import LONGEST_WAIT, state_answer
from service.rest.routes.other_kind import Lookup, hint_at_clips
from service.rest.transport import context
from service.rest.transport.head_requests import wants_no_body
from service.rest.transport.known_query import KNOWN_QUERY
from service.serving.jobs.job import Hooks, Jobs, JobView, NewJob, job_id
from service.serving.prediction import check_ready, with_seed
from service.telemetry.request_context import sharer

WEBHOOK = "webhook"
CREATE_ERRORS = (
    *("invalid_request", "conflict", "too_large", "unsupported_media", "invalid_frame"),
    *("queue_full", "client_limit", "unavailable"),
)
NOT_DURABLE = "jobs of this server end with its process"


def router(state: AppState, jobs: Jobs, clips: Lookup | None = None) -> APIRouter:
    """Build all routes under /v1/jobs. Of an id that is one of `clips` they say so."""
    routes = APIRouter(tags=["jobs"], dependencies=[KNOWN_QUERY, hint_at_clips(clips)])

    @routes.post(
        "/v1/jobs",
        operation_id="createJob",
        summary="Predict later: a pair, or every pair of many frames",
        description=job_openapi.JOBS,
        status_code=202,
        responses=job_openapi.job_answers(*CREATE_ERRORS, creates=True),
        openapi_extra=job_openapi.job_request(state.settings),
    )
    async def create(request: Request) -> Response:
        return await take(state, jobs, request)

    @routes.get(
        "/v1/jobs/{job}",
        operation_id="getJob",
        summary="How a job stands; with `wait`, as soon as that changes; as server-sent events if Accept asks for them",
        responses=job_openapi.job_answers(has_events=True),
    )
    async def get(request: Request, job: str, wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0.0) -> Response:
        view = await jobs.get(job, context.of(request).client)
        describe = partial(document, jobs=jobs, prefix=context.of(request).prefix)
        return await state_answer(request, state, jobs, view, wait, describe, _headers)

    @routes.get(
        "/v1/jobs/{job}/result",
        operation_id="getJobResult",
        summary="What a job predicted, in the forms of /v1/predict; `item` picks one pair of many",
        response_class=Response,
        responses=job_openapi.job_answers("not_acceptable", "conflict"),
    )
    async def result(
        request: Request,
        job: str,
        item: Annotated[int | None, Query(ge=0)] = None,
        image_quality: str | None = None,
        maps: str | None = None,
    ) -> Response:
        return await _result(state, jobs, request, job, item, {"image_quality": image_quality, "maps": maps})

    @routes.delete(
        "/v1/jobs/{job}",
        operation_id="cancelJob",
        summary="Withdraw a job, or remove one that has ended",
        responses=job_openapi.job_answers(),
    )
    async def cancel(request: Request, job: str) -> Response:
        request_context = context.of(request)
        view = await jobs.cancel(job, request_context.client)
        return JSONResponse(document(view, jobs, request_context.prefix))

    _add_list(routes, jobs)
    return routes


def _add_list(routes: APIRouter, jobs: Jobs) -> None:
    @routes.get("/v1/jobs", operation_id="listJobs", summary="The caller's jobs, newest first")
    async def of_client(request: Request) -> Response:
        views = await jobs.of_client(named_client(request))
        return JSONResponse({"jobs": [document(view, jobs, context.of(request).prefix) for view in views]})


def named_client(request: Request) -> str:
    """Return the caller's name, for a list of what is its own. Raises InvalidRequest where there are no keys."""
    client = context.of(request).client
    if not client:
        raise InvalidRequest("a list needs an API key: without keys an id is all that opens a job")
    return client


def asked_for(request: Request) -> bool:
    """Tell whether the caller would rather have a job than wait (RFC 7240)."""
    if not (fields := request.headers.getlist("prefer")):
        return False
    preferences = ",".join(fields)
    return any(word.partition(";")[0].strip().lower() == "respond-async" for word in preferences.split(","))


async def take(state: AppState, jobs: Jobs, request: Request, *, is_preferred: bool = False) -> Response:
    """Check a job and accept it: 202, or 200 for one that was accepted before."""
    check_ready(state.engine, admitting="starting")  # a queue without workers yet keeps what it is given
    request_context = context.of(request)
    state.access.require(request_context.client, Scope.JOBS)  # a prediction that is preferred later is a job, too
    query = request.query_params.multi_items()
    hooks = [value for name, value in query if name == WEBHOOK]
    if len(hooks) > 1:
        raise InvalidRequest("webhook is given twice", field=WEBHOOK)
    hook = Hooks(state.settings.webhook_prefixes).check(hooks[0] if hooks else None)
    ident = job_id(request_context.client, request.headers.get("idempotency-key"))
    body = await job_body.receive(request, state)
    values = params.merge([[pair for pair in query if pair[0] != WEBHOOK], body.options])
    predict_params = params.parse(values, request.headers.get(params.TIMEOUT_HEADER), state.settings)
    if "deadline_ms" in values or params.TIMEOUT_HEADER in request.headers:
        raise InvalidRequest("a job has no deadline; cancel it instead", field="deadline_ms")
    job = NewJob(
        id=ident,
        client=request_context.client,
        frames=await body.decode(state, request_context.holding),
        # With the seed that was drawn, if any: a job that is run twice gives the same frames.
        options=with_seed(predict_params.options),
        fingerprint=body.fingerprint(query),
        webhook=hook,
        traceparent=request_context.trace.traceparent,
        holder=sharer(request_context),
    )
    view, fresh = await jobs.submit(job)
    headers = _headers(view) | {"Location": _path(view, request_context.prefix)}
    if is_preferred:
        headers["Preference-Applied"] = "respond-async"
    return JSONResponse(document(view, jobs, request_context.prefix), 202 if fresh else 200, headers)


async def _result(
    state: AppState, jobs: Jobs, request: Request, job: str, item: int | None, query: dict[str, str | None]
) -> Response:
    """Answer with one item of a job, or with all; `query` says how their frames are encoded."""
    options = params.parse({k: v for k, v in query.items() if v is not None}, None, state.settings)
    view = await jobs.get(job, context.of(request).client)
    if wants_no_body(request):
        return job_results.headers_only(view)
    if item is None and view.items > 1:
        return await job_results.every(jobs, view, request, options, state.codecs)
    return await job_results.one(jobs, view, item or 0, request, options, state.codecs)


def document(view: JobView, jobs: Jobs, prefix: str) -> dict[str, Any]:
    """Describe a job as JSON; times are seconds since the epoch, waits milliseconds.

    `prefix`: of the proxy by which the caller came, if it did.
    """
    path = _path(view, prefix)
    members: dict[str, Any] = {
        "id": view.id,
        "state": view.state.value,
        "items": view.items,
        "done": view.done,
        "progress": round(view.progress, 4),
        "position": view.position,
        "predicted_wait_ms": None if view.wait is None else math.ceil(view.wait * 1000),
        "created": view.created,
        "finished": view.finished,
        "durable": jobs.durable,
        "durability": jobs.durability,
        "note": None if jobs.durable else NOT_DURABLE,
        "links": {"self": path, "result": f"{path}/result"},
    }
    if view.failure is not None:
        failure = view.failure
        members["error"] = {
            "code": failure.code,
            "message": failure.message,
            "field": failure.field,
            "reason": failure.reason,
        }
    return {name: value for name, value in members.items() if value is not None}


def _path(view: JobView, prefix: str) -> str:
    return f"{prefix}/v1/jobs/{view.id}"


def _headers(view: JobView) -> dict[str, str]:
    if view.state.final:
        return {}
    return {"Retry-After": str(max(1, math.ceil(min(60.0, view.wait or 1.0))))}
