"""Clips that are made as jobs: how they stand, a caller's list of them, results in ranges, deleting.

`service.rest.routes.video` accepts them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.app_state import AppState
from service.rest.formats import byte_range
from service.rest.formats.byte_range import is_matched
from service.rest.formats.clip_response import ClipResponse
from service.rest.routes.job_events import LONGEST_WAIT, state_answer
from service.rest.routes.jobs import named_client
from service.rest.transport import context
from service.rest.transport.errors import problem
from service.rest.transport.head_requests import no_body, wants_no_body
from service.serving.jobs.clip_jobs import ClipJobs, ClipView

#: Says what of a clip is left out or changed.
NOTE = "X-Dmvfn-Note"


def add(routes: APIRouter, state: AppState, jobs: ClipJobs) -> None:
    """Add GET /v1/video and all paths below it."""

    @routes.get("/v1/video", operation_id="listVideoJobs", summary="The caller's clips, newest first")
    async def of_client(request: Request) -> Response:
        views = await jobs.of_client(named_client(request))
        return JSONResponse({"clips": [document(view, jobs, context.of(request).prefix) for view in views]})

    @routes.get(
        "/v1/video/{job}",
        operation_id="getVideoJob",
        summary="How far a clip is; with `wait`, once that changes; as server-sent events if Accept asks for them",
    )
    async def get(request: Request, job: str, wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0.0) -> Response:
        view = await jobs.get(job, context.of(request).client)
        describe = partial(document, jobs=jobs, prefix=context.of(request).prefix)
        return await state_answer(request, state, jobs, view, wait, describe)

    @routes.get("/v1/video/{job}/result", operation_id="getVideoResult", summary="The finished clip")
    async def result(request: Request, job: str) -> Response:
        view = await jobs.get(job, context.of(request).client)
        view.check_done()
        return noted(_result(request, jobs, view), view.notes)

    @routes.delete("/v1/video/{job}", operation_id="cancelVideoJob", summary="Stop a clip, or drop a finished one")
    async def cancel(request: Request, job: str) -> Response:
        request_context = context.of(request)
        view = await jobs.cancel(job, request_context.client)
        return JSONResponse(document(view, jobs, request_context.prefix))


def document(view: ClipView, jobs: ClipJobs, prefix: str) -> dict[str, Any]:
    """Describe a clip as JSON; like other jobs' documents. `prefix`: of the proxy by which the caller came, if any."""
    path = path_of_clip(view.id, prefix)
    members: dict[str, Any] = {
        "id": view.id,
        "state": view.state.value,
        "done": view.done,
        "items": view.items,
        "progress": view.progress,
        "created": view.created,
        "finished": view.finished,
        "durable": jobs.durable,
        "durability": jobs.durability,
        "notes": list(view.notes) or None,
        "links": {"self": path, "result": f"{path}/result"},
    }
    if view.failure is not None:
        members["error"] = {
            "code": view.failure.code,
            "message": view.failure.message,
            "field": view.failure.field,
        }
    return {name: value for name, value in members.items() if value is not None}


def path_of_clip(ident: str, prefix: str) -> str:
    """Return where the caller finds a clip that is made as a job. `prefix`: of the proxy by which it came, if any."""
    return f"{prefix}/v1/video/{ident}"


def noted(response: Response, notes: tuple[str, ...]) -> Response:
    """Tell in a header what is left out or changed."""
    if notes:
        response.headers[NOTE] = "; ".join(notes)
    return response


def _result(request: Request, jobs: ClipJobs, view: ClipView) -> Response:
    """Answer with a finished clip or with the range that is asked for; players ask for two bytes, then for the rest."""
    etag, total = view.etag, view.nbytes
    headers = {"Accept-Ranges": "bytes", "ETag": etag, "Content-Disposition": _disposition(view.file_name)}
    if is_matched(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    header = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    request_context = context.of(request)
    try:
        part = byte_range.parse(header, total)
    except byte_range.UnsatisfiableRange as error:
        request_context.code = error.code
        return problem(error, request_context.request_id, status=416, headers={"Content-Range": f"bytes */{total}"})
    if part is not None:
        headers["Content-Range"] = part.content_range
    start, stop = (0, total) if part is None else (part.start, part.stop)
    pieces = no_body(bytes) if wants_no_body(request) else _fetched(jobs, view, start, stop)
    status = 200 if part is None else 206
    return ClipResponse(pieces, request_context, view.media_type, stop - start, status=status, headers=headers)


def _disposition(file_name: str) -> str:
    """Write the header that names a result's file: shown by a browser, kept under this name (RFC 6266)."""
    if file_name.isascii():
        return f'inline; filename="{file_name}"'
    return f"inline; filename*=UTF-8''{quote(file_name, safe='')}"


async def _fetched(jobs: ClipJobs, view: ClipView, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    """Yield bytes of a finished clip; once all were sent, it may make room for others."""
    async with aclosing(jobs.pieces(view, start, stop)) as pieces:
        async for piece in pieces:
            yield piece
    await jobs.sent(view, start, stop)
