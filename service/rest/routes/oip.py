"""The Open Inference Protocol over HTTP: every path its stock clients ask for. Errors are ours, with their "error"."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.app_state import AppState
from service.core.errors import InvalidRequest, TooLarge, Unavailable, Unsupported
from service.rest.formats import oip_messages
from service.rest.formats.json_body import FEW, apart, check_values
from service.rest.formats.oip_messages import BINARY, JSON, LENGTH
from service.rest.transport import context
from service.rest.transport.body import read
from service.rest.transport.disconnect import while_connected
from service.serving.oip import infer as oip_infer
from service.serving.oip import models as oip_models
from service.serving.oip.infer import Caller
from service.serving.timings import facts

#: Bytes of the index's body, which says one word.
MAX_INDEX = 64 * 1024
#: Both spellings of every path of a model.
BARE, VERSIONED = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


def router(parts: AppState) -> APIRouter:
    """Its routes; those of one model twice, with and without a version."""
    routes = APIRouter(tags=["open inference protocol"])
    _server(routes, parts)
    # Before the models: a model cannot be called "stats".
    _statistics(routes, parts)
    _models(routes, parts)
    _infer(routes, parts)
    _unoffered(routes)
    return routes


def _server(routes: APIRouter, parts: AppState) -> None:
    @routes.get("/v2", operation_id="v2Server", summary="Name, release, extensions that work")
    async def server(request: Request) -> JSONResponse:
        app = request.app
        return JSONResponse(oip_models.server(app.version if isinstance(app, FastAPI) else "0"))

    @routes.get("/v2/health/live", operation_id="v2Live", summary="Whether the process answers")
    async def live() -> Response:
        return Response()

    @routes.get("/v2/health/ready", operation_id="v2Ready", summary="Whether new work is taken")
    async def ready() -> Response:
        return _ready(parts)

    @routes.post("/v2/repository/index", operation_id="v2Index", summary="Both models and their state")
    async def index(request: Request) -> JSONResponse:
        asked = _object(await read(request))
        state = parts.engine.readiness()
        only = asked.get("ready") is True
        return JSONResponse(oip_models.index(ready=state.ready, reason=state.reason, only_ready=only))


def _statistics(routes: APIRouter, parts: AppState) -> None:
    @routes.get("/v2/models/stats", operation_id="v2AllStatistics", summary="What has been asked of every model")
    async def everything() -> JSONResponse:
        return JSONResponse({"model_stats": parts.usage.shown()})

    async def one(model: str, version: str = "") -> JSONResponse:
        oip_models.known(model, version)
        return JSONResponse({"model_stats": parts.usage.shown(model)})

    _both(routes, "GET", "/stats", one, "v2Statistics", "What has been asked of a model")


def _models(routes: APIRouter, parts: AppState) -> None:
    async def metadata(model: str, version: str = "") -> JSONResponse:
        return JSONResponse(oip_models.metadata(oip_models.known(model, version), parts.engine.model()))

    async def ready(model: str, version: str = "") -> Response:
        oip_models.known(model, version)
        return _ready(parts)

    async def config(model: str, version: str = "") -> JSONResponse:
        found = oip_models.known(model, version)
        settings = parts.settings
        return JSONResponse(
            oip_models.config(
                found,
                parts.engine.model(),
                max_batch=settings.max_batch,
                max_queue=settings.max_queue_items,
                timeout_ms=settings.default_deadline_ms,
            )
        )

    _both(routes, "GET", "", metadata, "v2Metadata", "A model's tensors")
    _both(routes, "GET", "/ready", ready, "v2ModelReady", "Whether a model takes work")
    _both(routes, "GET", "/config", config, "v2Config", "A model's configuration")


def _infer(routes: APIRouter, parts: AppState) -> None:
    async def infer(request: Request, model: str, version: str = "") -> Response:
        oip_models.known(model, version)
        body = await read(request)
        coding, length = request.headers.get("content-encoding", ""), request.headers.get(LENGTH)

        def take() -> oip_messages.Asked:
            whole = oip_messages.inflated(body, coding, parts.settings.max_body_bytes)
            context.of(request).holding.grow(max(0, len(whole) - len(body)))
            return oip_messages.read(whole, length, model, version)

        asked = await apart(take, sys.maxsize if coding else len(body))
        came = context.of(request)
        caller = Caller(came.request_id, came.client, None, came.trace.traceparent, came.holding)
        answer = await while_connected(request.receive, oip_infer.infer(parts, asked.request, caller))
        came.stages += answer.slowest.took
        came.notes.update(facts(answer.slowest.result, answer.slowest.took))

        def make() -> tuple[bytes, int | None, str | None]:
            made, head = oip_messages.write(answer, asked)
            made, used = oip_messages.deflated(made, request.headers.get("accept-encoding", ""))
            return made, head, used

        made, head, used = await asyncio.to_thread(make)
        headers = {} if head is None else {LENGTH: str(head)}
        if used is not None:
            headers["Content-Encoding"] = used
        return Response(made, headers=headers, media_type=JSON if head is None else BINARY)

    _both(routes, "POST", "/infer", infer, "v2Infer", "Predict a batch")


def _unoffered(routes: APIRouter) -> None:
    """Paths that clients may try: a plain answer beats an unknown path."""

    def refusing(why: str) -> Any:
        async def refuse() -> Response:
            raise Unsupported(why)

        return refuse

    fixed = "models cannot be loaded or unloaded while the service runs"
    settings = "tracing and logging are set up by the service's settings"
    memory = "shared memory is not offered; send the data"
    for path, methods, why in (
        ("/v2/repository/models/{model}/load", ["POST"], fixed),
        ("/v2/repository/models/{model}/unload", ["POST"], fixed),
        ("/v2/trace/setting", ["GET", "POST"], settings),
        ("/v2/models/{model}/trace/setting", ["GET", "POST"], settings),
        ("/v2/logging", ["GET", "POST"], settings),
        ("/v2/systemsharedmemory/{rest:path}", ["GET", "POST"], memory),
        ("/v2/cudasharedmemory/{rest:path}", ["GET", "POST"], memory),
    ):
        routes.add_api_route(path, refusing(why), methods=methods, include_in_schema=False)


def _both(routes: APIRouter, method: str, path: str, endpoint: Any, name: str, summary: str) -> None:
    """A model's path with and without a version; the latter stands in the documentation."""
    routes.add_api_route(
        BARE + path, endpoint, methods=[method], operation_id=name, summary=summary, response_class=Response
    )
    routes.add_api_route(VERSIONED + path, endpoint, methods=[method], include_in_schema=False, response_class=Response)


def _ready(parts: AppState) -> Response:
    state = parts.engine.readiness()
    if not state.ready:
        raise Unavailable(f"not ready: {state.reason}", reason=state.reason)
    return Response()


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    if len(body) > MAX_INDEX:
        raise TooLarge(f"the body may have at most {MAX_INDEX} bytes", field="body")
    check_values(body, FEW)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON", field="body") from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body must be a JSON object", field="body")
    return found
