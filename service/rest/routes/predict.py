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


def router(state: AppState, jobs: Jobs | None = None) -> APIRouter:
    """Build the route. With `jobs`, a caller may prefer to have the answer later (RFC 7240: respond-async)."""
    routes = APIRouter(tags=["predict"], route_class=FastPathRoute)

    @routes.post(
        "/v1/predict",
        operation_id="predict",
        summary="Predict the next frame, or the next few",
        description=openapi.PREDICT,
        response_class=Response,
        responses=openapi.predict_answers(),
        openapi_extra=openapi.predict_request(state.settings),
    )
    async def predict(request: Request) -> Response:
        if jobs is not None and later.asked_for(request):
            return await later.take(state, jobs, request, is_preferred=True)
        _ready(state)
        request_context = context.of(request)
        body = await predict_body.receive(request, state.codecs.limits)
        values = params.merge([request.query_params.multi_items(), body.options])
        predict_params = params.parse(values, request.headers.get(params.TIMEOUT_HEADER), state.settings)
        form = response.choose(", ".join(request.headers.getlist("accept")), predict_params)
        work = _answer(state, request_context, body, predict_params, form)
        del body  # what is decoded lets go of the body
        return await while_connected(request.receive, work)

    return routes


def _ready(state: AppState) -> None:
    """Raise Unavailable if no work is taken. Called before the body is read: megabytes for a 503 help nobody.

    While draining, health checks are told first and work is still taken for a while: the engine knows until when.
    """
    readiness = state.engine.readiness()
    if not readiness.ready and readiness.reason != "draining":
        raise Unavailable(f"not ready: {readiness.reason}", reason=readiness.reason, retry_after=1.0)


async def _answer(
    state: AppState, request_context: Context, body: PredictBody, predict_params: PredictParams, form: ResponseFormat
) -> Response:
    """Decode, predict, encode."""
    deadline = request_context.began + predict_params.deadline_ms / 1000
    clock = time.perf_counter
    start_time = clock()
    previous, current = await body.frames(state.codecs, request_context.holding)
    decode_end = clock()
    request = PredictRequest(
        request_context.request_id,
        previous,
        current,
        predict_params.options,
        deadline,
        request_context.client,
        traceparent=request_context.trace.traceparent,
    )
    reserve_answer(request_context.holding, request)
    del body, previous, current
    if state.clock() >= deadline:
        state.metrics.deadline_missed("admit")
        raise DeadlineExceeded("the deadline passed while the frames were read")
    result = await state.engine.predict(request)
    del request  # the answer takes the place of its frames
    predict_end = clock()
    files = await response.encode(result, form, state.codecs)
    encode_end = clock()
    spare = deadline - state.clock()
    if spare < 0:
        state.metrics.deadline_missed("late")
        raise DeadlineExceeded("the deadline passed while the answer was written")
    stage_times = timings.stages(result, decode=decode_end - start_time, encode=encode_end - predict_end)
    request_context.stages += stage_times
    request_context.notes.update(timings.facts(result, stage_times), spare_ms=round(spare * 1000, 3))
    return response.build(result, files, form, _facts(result, request_context), request_context.holding)


def _facts(result: PredictResult, request_context: Context) -> dict[str, str]:
    """Return the headers of every kind of answer; one route for each step, FLOPs of all."""
    facts = {
        "X-Dmvfn-Route": ",".join(route_text(step.route) for step in result.steps),
        "X-Dmvfn-Flops": str(result.flops),
        "X-Dmvfn-Model": result.model_version.encode("ascii", "backslashreplace").decode(),
        "X-Dmvfn-Batch-Size": str(result.batch_size),
        "Server-Timing": ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in request_context.stages),
    }
    if result.seed is not None:
        facts["X-Dmvfn-Seed"] = str(result.seed)
    if result.shortened:
        facts["X-Dmvfn-Shortened"] = "1"
    return facts
