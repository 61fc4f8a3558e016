"""Routes whose endpoint takes the request and gives the response: nothing to inject, nothing to validate.

FastAPI documents them like any other. `FastPathApp` answers them without what FastAPI and Starlette do around every
path: a part of the two milliseconds that the service adds to a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class FastPathRoute(APIRoute):
    """A route that calls its endpoint as it is. Errors other than ServiceError must not leave it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint


class FastPathApp(FastAPI):
    """FastAPI with a short way to some of its routes, by exact path and method."""

    #: By method and path.
    _short_ways: Mapping[tuple[str, str], ASGIApp] = MappingProxyType({})

    def shorten(self, router: APIRouter, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        """Take the short way to the routes of `router` that allow it: through what `wrap` puts around them alone."""
        routes = [route for route in router.routes if isinstance(route, FastPathRoute)]
        self._short_ways = {
            (method, route.path): wrap(_directly(self, route)) for route in routes for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        way = self._short_ways.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (super().__call__ if way is None else way)(scope, receive, send)


def _directly(app: FastAPI, route: FastPathRoute) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(app=app, route=route, endpoint=route.endpoint, path_params={})
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return answer
