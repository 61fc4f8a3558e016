"""The HTTP application: the middleware, the routers, the errors. Built from the process's state, it makes none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Lifespan

from service.app_state import AppState
from service.rest.formats import openapi as docs
from service.rest.routes import jobs as jobs_routes
from service.rest.routes import model, predict
from service.rest.routes import operations as ops
from service.rest.routes.other_kind import Lookup
from service.rest.transport import errors
from service.rest.transport.fast_path import FastPathApp
from service.rest.transport.middleware import RequestMiddleware
from service.serving.jobs.job import Jobs
from service.telemetry.tracing import Tracer
from service.version import RELEASE

#: What scripts in a browser may read of an answer beyond what they always may (CORS' safelisted names).
EXPOSED = [
    *("X-Request-Id", "Traceparent", "Server-Timing", "Retry-After", "RateLimit", "RateLimit-Policy", "Location"),
    *("X-Dmvfn-Method", "X-Dmvfn-Shares", "X-Dmvfn-Route", "X-Dmvfn-Flops", "X-Dmvfn-Model", "X-Dmvfn-Seed"),
    *("X-Dmvfn-Batch-Size", "X-Dmvfn-Shortened", "X-Dmvfn-T", "X-Dmvfn-Cut", "X-Dmvfn-Note", "X-Frame-Shape"),
    *("Allow", "WWW-Authenticate", "Preference-Applied", "Inference-Header-Content-Length"),
    *("Content-Disposition", "ETag", "Content-Range", "Accept-Ranges"),
]


def build(
    state: AppState,
    extra: Sequence[APIRouter] = (),
    lifespan: Lifespan[FastAPI] | None = None,
    tracer: Tracer | None = None,
    jobs: Jobs | None = None,
    clips: Lookup | None = None,
) -> FastAPI:
    """Put our routes, those of `jobs`, and `extra` routers (V2, streams, the demo) behind one middleware.

    `clips`: jobs of the other kind, whose routes are among `extra`.
    """
    predict_router = predict.router(state, jobs)
    middleware = [Middleware(RequestMiddleware, state=state, tracer=tracer or Tracer())]
    if state.settings.cors_origins:
        # Outside the middleware: a preflight carries no key, and a refusal must be readable too.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(state.settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=600,
        )
        middleware.insert(0, cors)
    app = FastPathApp(
        title="DMVFN video prediction",
        summary="Two video frames in, the next frames out.",
        version=RELEASE,
        # FastAPI's page loads scripts from elsewhere; ours at /docs is one of the demo's files.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        # A path is one spelling: a redirected POST would send its frames twice.
        redirect_slashes=False,
    )
    if jobs is not None:
        extra = (jobs_routes.router(state, jobs, clips), *extra)
    for router in (predict_router, model.router(state), ops.router(state), errors.router(), *extra):
        app.include_router(router)
    errors.install(app)
    app.shorten(predict_router, lambda endpoint: _behind(middleware, endpoint))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = docs.document(app, has_keys=not state.access.is_open)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _behind(middleware: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    for layer, arguments, options in reversed(middleware):
        app = layer(app, *arguments, **options)
    return app


def operations(
    state: AppState, extra: Sequence[APIRouter] = (), *, has_health: bool = True, has_metrics: bool | None = None
) -> FastAPI:
    """Serve health, metrics and `extra` routers alone, for a process or a port that answers no callers.

    `has_metrics` None: unless they have a port of their own.
    """
    app = FastAPI(title="DMVFN worker", version=RELEASE, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequestMiddleware, state=state, tracer=Tracer())
    for router in (ops.router(state, has_health=has_health, has_metrics=has_metrics), *extra):
        app.include_router(router)
    errors.install(app)
    return app
