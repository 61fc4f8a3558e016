"""HEAD for every path that knows GET: the same status and headers, no body, nothing counted as fetched.

The routes see GET; the server, which keeps the scope it made, sends no body. Routes whose answers are long, or whose
being read means something, ask `wants_no_body`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypeVar

from starlette.requests import HTTPConnection
from starlette.types import Scope

T = TypeVar("T")

_KEY = "dmvfn.head"


def as_get(scope: Scope) -> Scope:
    """Return the scope that the routes see: a HEAD request as GET."""
    return {**scope, "method": "GET", _KEY: True} if scope["method"] == "HEAD" else scope


def wants_no_body(connection: HTTPConnection) -> bool:
    """Tell whether only the headers are wanted, so that a route need not make or hand out the rest."""
    return _KEY in connection.scope


async def no_body(kind: type[T]) -> AsyncGenerator[T, None]:
    """Yield nothing, in the place of a body made of `kind`."""
    for part in list[T]():
        yield part
