"""Whether the page that a browser speaks for may do what any page can make it do: open sockets, send plain requests."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.rest.transport import context


def is_allowed(connection: HTTPConnection, origins: Collection[str]) -> bool:
    """Tell whether the request comes from our own page, one of `origins`, or no page at all (RFC 6454, 7.3)."""
    origin = connection.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    host = context.of(connection).host or connection.headers.get("host", "")
    return urlsplit(origin).netloc.lower() == host.lower()
