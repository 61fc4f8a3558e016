"""POST /v1/predict: two frames in, the next ones out."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.app_state import AppState
from service.core.errors import DeadlineExceeded, Unavailable
from service.core.types import PredictRequest, PredictResult, route_text
from service.rest.formats import openapi, params, predict_body, response
from service.rest.formats.params import PredictParams
from service.rest.formats.predict_body import PredictBody
from service.rest.formats.response import ResponseFormat
from service.rest.routes import jobs as later
from service.rest.transport import context
from service.rest.transport.context import Context
from service.rest.transport.disconnect import while_connected
from service.rest.transport.fast_path import FastPathRoute
from service.serving import timings
from service.serving.byte_budget import reserve_answer
from service.serving.jobs.job import Jobs


def router(parts: AppState, jobs: Jobs | None = None) -> APIRouter:
    """The one route. With `jobs`, a caller may prefer to have the answer later (RFC 7240: respond-async)."""
    routes = APIRouter(tags=["predict"], route_class=FastPathRoute)

    @routes.post(
        "/v1/predict",
        operation_id="predict",
        summary="Predict the next frame, or the next few",
        description=openapi.PREDICT,
        response_class=Response,
        responses=openapi.predict_answers(),
        openapi_extra=openapi.predict_request(parts.settings),
    )
    async def predict(request: Request) -> Response:
        if jobs is not None and later.asked_for(request):
            return await later.take(parts, jobs, request, preferred=True)
        _ready(parts)
        came = context.of(request)
        given = await predict_body.receive(request, parts.codecs.limits)
        chosen = params.merge([request.query_params.multi_items(), given.options])
        wish = params.parse(chosen, request.headers.get(params.TIMEOUT_HEADER), parts.settings)
        form = response.choose(", ".join(request.headers.getlist("accept")), wish)
        work = _answer(parts, came, given, wish, form)
        del given  # what is decoded lets go of the body
        return await while_connected(request.receive, work)

    return routes


def _ready(parts: AppState) -> None:
    """Asked before the body is read: megabytes for a 503 help nobody.

    While draining, health checks are told first and work is still taken for a while: the engine knows until when.
    """
    state = parts.engine.readiness()
    if not state.ready and state.reason != "draining":
        raise Unavailable(f"not ready: {state.reason}", reason=state.reason, retry_after=1.0)


async def _answer(
    parts: AppState, came: Context, given: PredictBody, wish: PredictParams, form: ResponseFormat
) -> Response:
    """Decode, predict, encode."""
    deadline = came.began + wish.deadline_ms / 1000
    clock = time.perf_counter
    started = clock()
    previous, current = await given.frames(parts.codecs, came.holding)
    decoded = clock()
    request = PredictRequest(
        came.request_id, previous, current, wish.options, deadline, came.client, traceparent=came.trace.traceparent
    )
    reserve_answer(came.holding, request)
    del given, previous, current
    if parts.clock() >= deadline:
        parts.metrics.deadline_missed("admit")
        raise DeadlineExceeded("the deadline passed while the frames were read")
    result = await parts.engine.predict(request)
    del request  # the answer takes the place of its frames
    predicted = clock()
    files = await response.encode(result, form, parts.codecs)
    encoded = clock()
    spare = deadline - parts.clock()
    if spare < 0:
        parts.metrics.deadline_missed("late")
        raise DeadlineExceeded("the deadline passed while the answer was written")
    took = timings.stages(result, decode=decoded - started, encode=encoded - predicted)
    came.stages += took
    came.notes.update(timings.facts(result, took), spare_ms=round(spare * 1000, 3))
    return response.build(result, files, form, _facts(result, came), came.holding)


def _facts(result: PredictResult, came: Context) -> dict[str, str]:
    """What every kind of answer says in its headers; one route for each step, FLOPs of all."""
    facts = {
        "X-Dmvfn-Route": ",".join(route_text(step.route) for step in result.steps),
        "X-Dmvfn-Flops": str(result.flops),
        "X-Dmvfn-Model": result.model_version.encode("ascii", "backslashreplace").decode(),
        "X-Dmvfn-Batch-Size": str(result.batch_size),
        "Server-Timing": ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in came.stages),
    }
    if result.seed is not None:
        facts["X-Dmvfn-Seed"] = str(result.seed)
    if result.shortened:
        facts["X-Dmvfn-Shortened"] = "1"
    return facts
