"""POST /v1/predict: two frames in, the next ones out."""

from __future__ import annotations

from functools import lru_cache

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from service.app_state import AppState
from service.rest.formats import openapi, params, predict_body, response
from service.rest.formats.params import PredictParams
from service.rest.formats.response import ResponseFormat
from service.rest.routes import jobs as later
from service.rest.transport import context
from service.rest.transport.disconnect import while_connected
from service.rest.transport.fast_path import FastPathRoute
from service.serving import prediction
from service.serving.jobs.job import Jobs
from service.serving.prediction import Caller

#: Of how many different ways to ask for a prediction it is remembered what each means.
REMEMBERED = 64


def router(state: AppState, jobs: Jobs | None = None) -> APIRouter:
    """Build the route. With `jobs`, a caller may prefer to have the answer later (RFC 7240: respond-async)."""
    routes = APIRouter(tags=["predict"], route_class=FastPathRoute)

    # Callers ask for the same again and again, and to check it anew takes a tenth of what the event loop does.
    @lru_cache(maxsize=REMEMBERED)
    def read_options(
        query: bytes, body_options: tuple[tuple[str, str], ...], timeout: str | None, accept: str
    ) -> tuple[PredictParams, ResponseFormat]:
        values = params.merge([QueryParams(query).multi_items(), body_options])
        predict_params = params.parse(values, timeout, state.settings)
        return predict_params, response.choose(accept, predict_params)

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
        prediction.check_ready(state.engine)
        request_context = context.of(request)
        body = await predict_body.receive(request, state.codecs.limits)
        timeout, accept = request.headers.get(params.TIMEOUT_HEADER), ", ".join(request.headers.getlist("accept"))
        predict_params, form = read_options(request.scope["query_string"], tuple(body.options), timeout, accept)
        deadline = request_context.began + predict_params.deadline_ms / 1000
        caller = Caller.of(request_context, deadline, request_context.holding)
        work = prediction.predict(state, body.pair, predict_params.options, form.format, form.quality, caller)
        del body  # what is decoded lets go of the body
        value = await while_connected(request.scope, request.receive, work)
        value.report(request_context)
        return response.build(value, form, request_context.holding)

    return routes
