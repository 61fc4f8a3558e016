"""Routes whose endpoint takes the request and gives the response: nothing to inject, nothing to validate.

FastAPI documents them like any other; `FastPath` answers them without what it does for every path: a part of the two
milliseconds that the service adds to a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class FastPathRoute(APIRoute):
    """A route that calls its endpoint as it is. Errors other than ServiceError must not leave it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint


class FastPath:
    """ASGI middleware behind `RequestMiddleware`: what `router` answers directly, by exact path and method."""

    def __init__(self, app: ASGIApp, router: APIRouter) -> None:
        self._app = app
        routes = [route for route in router.routes if isinstance(route, FastPathRoute)]
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
