"""The Open Inference Protocol over HTTP: every path its stock clients ask for. Errors are ours, with their "error"."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.app_state import AppState
from service.core.errors import InvalidRequest, Unauthenticated, Unavailable, Unsupported
from service.rest.formats import oip_messages
from service.rest.formats.json_body import FEW, apart, read_object
from service.rest.formats.oip_messages import BINARY, JSON, LENGTH
from service.rest.transport import context
from service.rest.transport.body import read
from service.rest.transport.disconnect import while_connected
from service.rest.transport.origins import is_allowed
from service.serving.byte_budget import ByteHolding
from service.serving.oip import control
from service.serving.oip import infer as oip_infer
from service.serving.oip import models as oip_models
from service.serving.oip.served_versions import ServedVersions
from service.serving.prediction import Caller, check_ready

#: Bytes of the index's body, which says one word.
MAX_INDEX = 64 * 1024
#: Both spellings of every path of a model.
BARE, VERSIONED = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


def router(state: AppState) -> APIRouter:
    """Build the protocol's routes; those of one model twice, with and without a version."""
    routes = APIRouter(tags=["open inference protocol"])
    _server(routes, state)
    # Before the models: a model cannot be called "stats".
    _statistics(routes, state)
    _models(routes, state)
    _infer(routes, state)
    _control(routes, state)
    _unoffered(routes)
    return routes


def repository(state: AppState) -> APIRouter:
    """Build the routes of the model repository alone, for a worker: index, load and unload."""
    routes = APIRouter(tags=["open inference protocol"])
    _index(routes, state)
    _control(routes, state)
    return routes


def _server(routes: APIRouter, state: AppState) -> None:
    @routes.get("/v2", operation_id="v2Server", summary="Name, release, extensions that work")
    async def server(request: Request) -> JSONResponse:
        app = request.app
        release = app.version if isinstance(app, FastAPI) else "0"
        return JSONResponse(oip_models.server(release, can_load=control.is_offered(state)))

    @routes.get("/v2/health/live", operation_id="v2Live", summary="Whether the process answers")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @routes.get("/v2/health/ready", operation_id="v2Ready", summary="Whether new work is taken")
    async def ready() -> JSONResponse:
        return _ready(state, {"ready": True})

    _index(routes, state)


def _index(routes: APIRouter, state: AppState) -> None:
    @routes.post("/v2/repository/index", operation_id="v2Index", summary="Both models, their versions and state")
    async def index(request: Request) -> JSONResponse:
        body = await read(request)
        document = read_object(body, max_values=FEW, max_bytes=MAX_INDEX) if body else {}
        only_ready = document.get("ready")
        if not isinstance(only_ready, bool | None):
            raise InvalidRequest("ready must be true or false", field="ready")
        return JSONResponse(await control.index(state, only_ready=only_ready is True))


def _statistics(routes: APIRouter, state: AppState) -> None:
    @routes.get("/v2/models/stats", operation_id="v2AllStatistics", summary="What has been asked of every model")
    async def everything() -> JSONResponse:
        return JSONResponse({"model_stats": state.infer_statistics.documents()})

    async def one(model: str, version: str = "") -> JSONResponse:
        ServedVersions.of(state).find_model(model, version)
        return JSONResponse({"model_stats": state.infer_statistics.documents(model)})

    _both(routes, "GET", "/stats", one, "v2Statistics", "What has been asked of a model")


def _models(routes: APIRouter, state: AppState) -> None:
    async def metadata(model: str, version: str = "") -> JSONResponse:
        versions = ServedVersions.of(state)
        model_document = versions.find_model(model, version)
        return JSONResponse(oip_models.metadata(model_document, versions.model(version), versions.names))

    async def ready(model: str, version: str = "") -> JSONResponse:
        versions = ServedVersions.of(state)
        name = versions.find_model(model, version).name
        if versions.statuses and not versions.is_ready(version):
            raise Unavailable(f"version {version} is being loaded", reason="loading")
        return _ready(state, {"name": name, "ready": True})

    async def config(model: str, version: str = "") -> JSONResponse:
        versions, settings = ServedVersions.of(state), state.settings
        return JSONResponse(
            oip_models.config(
                versions.find_model(model, version),
                versions.model(version),
                max_batch=settings.max_batch,
                max_queue=settings.max_queue_items,
                timeout_ms=settings.default_deadline_ms,
            )
        )

    _both(routes, "GET", "", metadata, "v2Metadata", "A model's tensors")
    _both(routes, "GET", "/ready", ready, "v2ModelReady", "Whether a model takes work")
    _both(routes, "GET", "/config", config, "v2Config", "A model's configuration")


def _infer(routes: APIRouter, state: AppState) -> None:
    async def infer(request: Request, model: str, version: str = "") -> Response:
        ServedVersions.of(state).find_model(model, version)
        check_ready(state.engine)
        request_context = context.of(request)
        content = await _content(request, state.settings.max_body_bytes, request_context.holding)
        length = request.headers.get(LENGTH)
        message = await apart(lambda: oip_messages.read(content, length, model, version), len(content))
        caller = Caller.of(request_context, None, request_context.holding)
        answer = await while_connected(request.scope, request.receive, oip_infer.infer(state, message.request, caller))
        answer.slowest.report(request_context)

        def write_answer() -> tuple[bytes, int | None, str | None]:
            payload, json_length = oip_messages.write(answer, message)
            payload, used_coding = oip_messages.compress(payload, request.headers.get("accept-encoding", ""))
            return payload, json_length, used_coding

        payload, json_length, used_coding = await asyncio.to_thread(write_answer)
        headers = {} if json_length is None else {LENGTH: str(json_length)}
        if used_coding is not None:
            headers["Content-Encoding"] = used_coding
        return Response(payload, headers=headers, media_type=JSON if json_length is None else BINARY)

    _both(routes, "POST", "/infer", infer, "v2Infer", "Predict a batch")


def _control(routes: APIRouter, state: AppState) -> None:
    @routes.post("/v2/repository/models/{model}/load", operation_id="v2Load", summary="Load a version of the weights")
    async def load(request: Request, model: str) -> Response:
        await control.load(state, context.of(request).client, model, await _parameters(request, state))
        return JSONResponse({})

    @routes.post("/v2/repository/models/{model}/unload", operation_id="v2Unload", summary="Unload a version")
    async def unload(request: Request, model: str) -> Response:
        await control.unload(state, context.of(request).client, model, await _parameters(request, state))
        return JSONResponse({})


async def _parameters(request: Request, state: AppState) -> dict[str, object]:
    """Read the parameters of a body, which may be empty. Raises Unauthenticated for a page of another origin.

    A browser sends such a page's request though the page may not read the answer.
    """
    if not is_allowed(request, state.settings.cors_origins):
        raise Unauthenticated("a page of another origin may not load or unload versions")
    body = await read(request)
    document = read_object(body, max_values=FEW, max_bytes=MAX_INDEX) if body else {}
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters must be an object", field="parameters")
    return parameters


def _unoffered(routes: APIRouter) -> None:
    """Refuse paths that clients may try: a plain answer beats an unknown path."""

    def refusing(why: str) -> Any:
        async def refuse() -> Response:
            raise Unsupported(why)

        return refuse

    settings = "tracing and logging are set up by the service's settings"
    memory = "shared memory is not offered; send the data"
    for path, methods, why in (
        ("/v2/trace/setting", ["GET", "POST"], settings),
        ("/v2/models/{model}/trace/setting", ["GET", "POST"], settings),
        ("/v2/logging", ["GET", "POST"], settings),
        ("/v2/systemsharedmemory/{rest:path}", ["GET", "POST"], memory),
        ("/v2/cudasharedmemory/{rest:path}", ["GET", "POST"], memory),
    ):
        routes.add_api_route(path, refusing(why), methods=methods, include_in_schema=False)


async def _content(request: Request, limit: int, holding: ByteHolding) -> bytes:
    """Read the body, and inflate it where it is compressed; each piece is counted in `holding` as it is made."""
    body = await read(request)
    coding = request.headers.get("content-encoding", "")
    if not coding:
        return body
    content = await apart(lambda: oip_messages.decompress(body, coding, limit, holding.grow), sys.maxsize)
    holding.settle(len(content))  # the compressed body is let go of here
    return content


def _both(routes: APIRouter, method: str, path: str, endpoint: Any, name: str, summary: str) -> None:
    """Add a model's path with and without a version; the latter stands in the documentation."""
    routes.add_api_route(
        BARE + path, endpoint, methods=[method], operation_id=name, summary=summary, response_class=Response
    )
    routes.add_api_route(VERSIONED + path, endpoint, methods=[method], include_in_schema=False, response_class=Response)


def _ready(state: AppState, document: dict[str, object]) -> JSONResponse:
    """Answer with `document`, which clients such as KServe's parse; Unavailable while no work is taken."""
    readiness = state.engine.readiness()
    if not readiness.ready:
        raise Unavailable(f"not ready: {readiness.reason}", reason=readiness.reason)
    return JSONResponse(document)
