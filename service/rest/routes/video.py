"""POST /v1/video: a clip in, the clip with predicted frames out, sent while it is being made; or as a job to wait for.

y4m or a container comes in as the plain body or as a form's file; what comes out is what Accept prefers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from service.app_state import AppState
from service.core.errors import (
    Cancelled,
    InvalidRequest,
    NotAcceptable,
    UnsupportedMedia,
)
from service.core.types import Options, RoutePolicy
from service.rest.formats import byte_range, negotiation
from service.rest.formats.clip_form import FormFile
from service.rest.formats.clip_response import ClipResponse
from service.rest.formats.openapi import error_answers
from service.rest.formats.params import shown
from service.rest.routes import jobs as later
from service.rest.transport import context
from service.rest.transport.context import Context
from service.rest.transport.errors import problem
from service.rest.transport.head_requests import no_body, wants_no_body
from service.serving.jobs.video import ClipMaker, VideoJob, VideoJobs
from service.serving.oip.served_versions import ServedVersions
from service.serving.prediction import check_ready
from service.serving.video.clip import SoundMode, VideoError
from service.serving.video.clip_disk import ClipDisk, ClipFile
from service.serving.video.clip_memory import ClipMemory
from service.serving.video.clip_places import ClipPlaces
from service.serving.video.conversion import OUTPUTS, ClipOrder, Conversion
from service.serving.video.output_frames import VideoParams
from service.serving.video.plan import Ahead, Every, FillLost, FramePlan, lost_frames

#: Characters of `lost` at most: every second frame of the longest clip takes half of them.
MAX_LOST = 16 * 1024
#: Characters of `lost` from which it is read in a thread.
LARGE_LOST = 256
#: Clips looked into at once before they are accepted as jobs: each has a decoder and a frame.
CHECKED_AT_ONCE = 2
#: What the query may hold; a name with a slip in it would else mean nothing, silently.
QUERY = ("ahead", "every", "lost", "compare", "sound", "method", "version", "route", "blocks", "scale")
#: Says what of a clip is left out or changed.
NOTE = "X-Dmvfn-Note"
_FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
_CLIP: dict[str, Any] = {
    "description": "The clip.",
    "content": {name: {} for name in OUTPUTS},
    "headers": {NOTE: {"description": "What of it is left out or changed.", "schema": {"type": "string"}}},
}
_ERRORS = error_answers(
    (
        *("invalid_request", "not_acceptable", "too_large", "unsupported_media", "invalid_frame"),
        *("queue_full", "client_limit", "unsupported", "unavailable"),
    )
)


def router(state: AppState) -> APIRouter:
    """Serve POST /v1/video, and the jobs that `Prefer: respond-async` makes of it."""
    routes = APIRouter(tags=["video"])
    clips = _Clips(state)

    @routes.post(
        "/v1/video",
        operation_id="convertVideo",
        summary="Predict frames of a clip: every frame ahead of time, every n-th, or those that were lost",
        response_class=Response,
        responses={200: _CLIP, **_ERRORS},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {}, "video/*": {}, "multipart/form-data": {"schema": _FORM}},
            },
        },
    )
    async def convert(
        request: Request,
        ahead: Annotated[
            int | None, Query(description="Show each frame as predicted this many frames earlier.")
        ] = None,
        every: Annotated[int | None, Query(description="Predict every n-th frame from the two before it.")] = None,
        lost: Annotated[str | None, Query(description="Predict these frames, such as 3,17,20-24; from 0.")] = None,
        compare: Annotated[bool, Query(description="True, predicted and error side by side.")] = False,
        sound: Annotated[
            SoundMode, Query(description="What the container holds is copied; or no sound; or the rest encoded anew.")
        ] = SoundMode.COPY,
        method: str | None = None,
        version: str | None = None,
        route: str | None = None,
        blocks: int | None = None,
        scale: float | None = None,
    ) -> Response:
        _check_names(request)
        plan = await _plan(ahead, every, lost)
        options = Options.parse(method=method, version=version, route=route, blocks=blocks, scale=scale)
        order = _asked(state, request, VideoParams(plan, compare), options, sound)
        check_ready(state.engine, admitting=None)
        file = await clips.receive(request)
        if later.asked_for(request):
            job = await clips.later(request, order, file)
            headers = {"Location": f"/v1/video/{job.id}", "Preference-Applied": "respond-async", "Retry-After": "1"}
            return JSONResponse(job.document(), 202, headers)
        return await clips.now(request, order, file)

    _add_jobs(routes, clips)
    return routes


def _add_jobs(routes: APIRouter, clips: _Clips) -> None:
    jobs = clips.jobs

    @routes.get("/v1/video/{job}", operation_id="getVideoJob", summary="How far a clip is")
    async def get(request: Request, job: str) -> Response:
        clip = jobs.get(job, context.of(request).client)
        notes = clips.notes(clip)
        return JSONResponse(clip.document() | ({"notes": list(notes)} if notes else {}))

    @routes.get("/v1/video/{job}/result", operation_id="getVideoResult", summary="The finished clip")
    async def result(request: Request, job: str) -> Response:
        clip = jobs.get(job, context.of(request).client)
        clip.check_done()
        return _noted(_result(request, clip), clips.notes(clip))

    @routes.delete("/v1/video/{job}", operation_id="cancelVideoJob", summary="Stop a clip, or drop a finished one")
    async def cancel(request: Request, job: str) -> Response:
        return JSONResponse((await jobs.cancel(job, context.of(request).client)).document())


class _Clips:
    """What all clips of a process share: places, disk, memory, jobs."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._places = ClipPlaces()
        self._disk = ClipDisk(state.settings.max_video_bytes)
        self._memory = ClipMemory(state.settings.inflight_bytes)
        self._checking = asyncio.Semaphore(CHECKED_AT_ONCE)
        self._conversions: WeakKeyDictionary[VideoJob, Conversion] = WeakKeyDictionary()
        self.jobs = VideoJobs(state.settings.job_ttl_s, self._places, self._disk, state.work)

    async def receive(self, request: Request) -> ClipFile:
        """Receive the body into a file. It takes no place while it comes, and makes way for others who have less."""
        form = _form(request)
        file = self._disk.open(_caller(request), spooled=True)
        file.give_up = file.drop
        try:
            await _receive(request, file, form)
        except BaseException:
            file.drop()
            raise
        file.give_up = None
        return file

    async def later(self, request: Request, order: ClipOrder, file: ClipFile) -> VideoJob:
        """Accept a clip as a job, once its beginning has been looked into."""
        async with AsyncExitStack() as stack:
            stack.callback(file.drop)
            conversion = self._conversion(request, order, file, patient=True)
            async with self._checking:
                total = await conversion.check()
            pieces = conversion.pieces()
            maker = ClipMaker(pieces, order.media_type, total, conversion.progress, conversion.close)
            job = self.jobs.begin(context.of(request).client, _caller(request), maker)
            self._conversions[job] = conversion
            stack.pop_all()  # the job's from here on
            return job

    def notes(self, job: VideoJob) -> tuple[str, ...]:
        """Return what of a job's clip is left out or changed, as far as it is known."""
        conversion = self._conversions.get(job)
        return conversion.notes if conversion else ()

    def _conversion(self, request: Request, order: ClipOrder, file: ClipFile, *, patient: bool) -> Conversion:
        client, most = context.of(request).client, self._disk.one_clip
        return Conversion(self._state, order, client, file, most, self._memory, patient=patient)

    async def now(self, request: Request, order: ClipOrder, file: ClipFile) -> Response:
        """Make a clip while its caller waits."""
        request_context = context.of(request)
        stack = AsyncExitStack()
        stack.callback(file.drop)
        try:
            stack.enter_context(self._places.call(_caller(request)))
            stack.enter_context(self._state.work.accepted())
            conversion = self._conversion(request, order, file, patient=False)
            pieces = conversion.pieces()
            stack.push_async_callback(pieces.aclose)
            # What is wrong with a clip mostly shows in its first frames: then the answer can still be an error.
            first = await anext(pieces, b"")
        except BaseException:
            await stack.aclose()
            raise
        return _noted(_Made(_after(first, pieces), request_context, order.media_type, stack), conversion.notes)


class _Made(ClipResponse):
    """A clip that is being made; `stack` is closed with the answer, however it ends."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], request_context: Context, media_type: str, stack: AsyncExitStack
    ) -> None:
        super().__init__(pieces, request_context, media_type)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


def _noted(response: Response, notes: tuple[str, ...]) -> Response:
    """Tell in a header what is left out or changed."""
    if notes:
        response.headers[NOTE] = "; ".join(notes)
    return response


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def _result(request: Request, clip: VideoJob) -> Response:
    """Answer with a finished clip or with the range that is asked for; players ask for two bytes, then for the rest."""
    etag = f'"{clip.id}"'
    total, headers = clip.file.nbytes, {"Accept-Ranges": "bytes", "ETag": etag}
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
    pieces = no_body(bytes) if wants_no_body(request) else _fetched(clip, start, stop)
    status = 200 if part is None else 206
    return ClipResponse(pieces, request_context, clip.maker.media_type, stop - start, status=status, headers=headers)


async def _fetched(clip: VideoJob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    """Yield bytes of a finished clip's file; once all were sent, it may make room for others."""
    async with aclosing(clip.file.pieces(start, stop)) as pieces:
        async for piece in pieces:
            yield piece
    clip.sent(start, stop)


def _caller(request: Request) -> str:
    """Name whom places and bytes are counted for: the key's name, or the address where there are no keys."""
    client = context.of(request).client
    return f"key {client}" if client else f"address {request.client.host if request.client else ''}"


def _check_names(request: Request) -> None:
    """Raise InvalidRequest for a member of the query that is not known or is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in QUERY:
            options = ", ".join(QUERY)
            raise InvalidRequest(f"there is no option {shown(name)}; the options are {options}", field=shown(name))
    for name in QUERY:
        if names.count(name) > 1:
            raise InvalidRequest(f"{name} is given twice", field=name)


def _asked(state: AppState, request: Request, params: VideoParams, options: Options, sound: SoundMode) -> ClipOrder:
    media_type = negotiation.choose(request.headers.get("accept"), tuple(OUTPUTS))
    if media_type is None:
        raise NotAcceptable(f"a clip can be answered as {', '.join(OUTPUTS)}", field="Accept")
    if options.route.policy is RoutePolicy.SAMPLE:
        raise InvalidRequest("sample would draw another route for each frame", field="route")
    # What is not loaded is told at once, not in the midst of the answer.
    if options.version is not None:
        ServedVersions.of(state).check_loaded(options.version)
    steps = params.plan.steps if isinstance(params.plan, Ahead) else 1
    try:
        options = replace(options, steps=steps).check(state.settings.max_steps)
    except InvalidRequest as error:
        error.field = "ahead" if error.field == "steps" else error.field
        raise
    return ClipOrder(params, options, OUTPUTS[media_type], media_type, sound)


async def _plan(ahead: int | None, every: int | None, lost: str | None) -> FramePlan:
    if sum(value is not None for value in (ahead, every, lost)) != 1:
        raise InvalidRequest("say one of ahead, every and lost", field="ahead")
    try:
        if ahead is not None:
            return Ahead(ahead)
        if every is not None:
            return Every(every)
        lost = lost or ""
        if len(lost) <= LARGE_LOST:
            return FillLost(lost_frames(lost))
        return FillLost(await asyncio.to_thread(lost_frames, lost, most=MAX_LOST))
    except VideoError as error:
        field = "ahead" if ahead is not None else "every" if every is not None else "lost"
        raise InvalidRequest(str(error).replace("--", ""), field=field) from error


def _form(request: Request) -> FormFile | None:
    """Return what takes the clip out of a form, if the body is one."""
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/"):
        return None
    if not content_type.lower().startswith("multipart/form-data"):
        raise UnsupportedMedia("send the clip as the body, or as the file of a form", field="Content-Type")
    return FormFile(content_type)


async def _receive(request: Request, file: ClipFile, form: FormFile | None) -> None:
    """Write the body, or the file in its form, into `file`; its size and time are bounded by the middleware."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left before its body was complete")
        body = message.get("body") or b""
        if content := form.feed(body) if form else body:
            await file.write(content)
        if not message.get("more_body", False):
            break
    if form:
        form.check_ended()
    if not file.nbytes:
        raise InvalidRequest("the body is empty; send a clip: y4m, MP4, Matroska or WebM", field="body")
