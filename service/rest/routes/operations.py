"""What operators and their machines ask: is it alive, does it take work, its metrics, its queues."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import exposition
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.app_state import AppState
from service.core.errors import NotFound
from service.rest.formats.schemas import Health


def router(state: AppState, *, has_health: bool = True, has_metrics: bool | None = None) -> APIRouter:
    """Serve health and metrics, which need no key, and /debug, which does where keys are set.

    `has_metrics` None: unless the settings give them a port of their own.
    """
    routes = APIRouter(tags=["operations"])
    if has_health:
        _add_health(routes, state)
        _add_debug(routes, state)
    if not state.settings.metrics_port if has_metrics is None else has_metrics:
        _add_metrics(routes, state)
    return routes


def _add_health(routes: APIRouter, state: AppState) -> None:
    @routes.get("/healthz/live", operation_id="getLive", summary="Whether the process answers")
    async def live() -> Health:
        return Health(status="live", reason=None, refusing_seconds=0.0, warnings=[])

    @routes.get(
        "/healthz/ready",
        operation_id="getReady",
        summary="Whether new work is taken",
        responses={503: {"model": Health, "description": "Not now; `reason` says why."}},
        response_model=Health,
    )
    async def ready() -> Response:
        readiness = state.engine.readiness()
        health = Health(
            status="ready" if readiness.ready else "not ready",
            reason=readiness.reason,
            refusing_seconds=readiness.refusing_seconds,
            warnings=list(readiness.warnings),
        )
        # A bare body: the caller is a probe that reads the status and a person who reads the reason.
        return JSONResponse(health.model_dump(), 200 if readiness.ready else 503)


def _add_metrics(routes: APIRouter, state: AppState) -> None:
    @routes.get(
        "/metrics",
        operation_id="getMetrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={
            200: {
                "description": "Text, or OpenMetrics where `Accept` asks for it.",
                "content": {
                    "text/plain": {"schema": {"type": "string"}},
                    "application/openmetrics-text": {"schema": {"type": "string"}},
                },
            }
        },
    )
    async def metrics(request: Request) -> Response:
        encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(state.metrics.registry), headers={"Content-Type": content_type})


def _add_debug(routes: APIRouter, state: AppState) -> None:
    @routes.get("/debug/batcher", operation_id="getBatcher", summary="The queues and the cost model, as they are now")
    async def batcher() -> JSONResponse:
        debug = getattr(state.engine, "debug", None)
        if debug is None:
            raise NotFound("this engine has no queues of its own")
        return JSONResponse(debug())
