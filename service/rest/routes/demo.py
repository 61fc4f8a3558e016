"""The demo page at /, the interface to try at /docs, and their files: static, read once, nothing from elsewhere."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.app_state import AppState
from service.core.errors import NotFound

FOLDER = Path(__file__).parent.parent / "demo"
#: What the page may load: its own files, and pictures and videos that it made or was given itself.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
#: No page of ours needs more than the camera.
PERMISSIONS = "camera=(self), microphone=(), geolocation=(), display-capture=()"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def router(state: AppState) -> APIRouter:
    """Serve /, /docs and /demo/...; they need no API key and hold nothing secret. `state` is unused, as all take it."""
    del state
    files = {str(path.relative_to(FOLDER)): _read(path) for path in sorted(FOLDER.rglob("*")) if path.is_file()}
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def index(request: Request) -> Response:
        return _answer(request, files["index.html"])

    @routes.get("/docs")
    async def reference(request: Request) -> Response:
        return _answer(request, files["reference.html"])

    @routes.get("/demo/{path:path}")
    async def asset(request: Request, path: str) -> Response:
        # A name in this table or nothing: no path of a caller's ever reaches the file system.
        file = files.get(path)
        if file is None:
            raise NotFound("there is no such file of the demo page")
        return _answer(request, file)

    return routes


def _read(path: Path) -> _File:
    body = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')


def _answer(request: Request, file: _File) -> Response:
    headers = {
        "ETag": file.etag,
        # Asked again every time, answered with 304: a new version shows at once.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Permissions-Policy": PERMISSIONS,
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)
