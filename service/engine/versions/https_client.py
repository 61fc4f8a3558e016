"""Reads what lies behind HTTPS addresses, and follows redirects to none but those."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import cast
from urllib.parse import urlsplit

#: Bytes that are read at once.
PIECE = 2**20
#: Seconds without a byte after which a download is given up.
SILENCE_S = 30.0


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS addresses only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Return the request to follow, or raise HTTPError."""
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(newurl, code, "a redirect away from HTTPS is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opened(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """Ask for an HTTPS address; return its answer, to be closed. Raises OSError, HTTPException or ValueError.

    `headers` go to this address and to none that it redirects to: where a registry keeps its files is not the registry.
    """
    if urlsplit(url).scheme != "https":
        raise ValueError("is no HTTPS address")
    request = urllib.request.Request(url)
    for name, value in (headers or {}).items():
        request.add_unredirected_header(name, value)
    try:
        return cast("HTTPResponse", urllib.request.build_opener(_HttpsOnly).open(request, timeout=SILENCE_S))
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, too, with a connection
        raise


def pieces_of(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield what an answer holds, and close it."""
    with answer:
        while piece := answer.read(PIECE):
            yield piece


def read_https(url: str) -> Iterator[bytes]:
    """Yield the bytes behind an address; fails as `opened`."""
    yield from pieces_of(opened(url))
