"""POST /v1/video: a clip in, the clip with predicted frames out, sent while it is being made; or as a job to wait for.

y4m or a container comes in as the plain body or as a form's file; what comes out is what Accept prefers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import replace
from typing import Annotated, Any

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
from service.rest.formats import clip_name, negotiation
from service.rest.formats.clip_form import FormFile
from service.rest.formats.clip_response import ClipResponse
from service.rest.formats.openapi import error_answers
from service.rest.formats.params import shown
from service.rest.routes import clips
from service.rest.routes import jobs as later
from service.rest.routes.jobs import WEBHOOK
from service.rest.routes.other_kind import Lookup, hint_at_jobs
from service.rest.transport import context
from service.rest.transport.body import check_plain
from service.rest.transport.context import Context
from service.rest.transport.disconnect import while_connected
from service.rest.transport.known_query import KNOWN_QUERY
from service.serving.jobs.clip_jobs import ClipJobs, NewClip
from service.serving.jobs.job import Hooks, job_id
from service.serving.jobs.job import fingerprint as job_fingerprint
from service.serving.jobs.video import VideoJobs
from service.serving.oip.served_versions import ServedVersions
from service.serving.prediction import check_ready
from service.serving.video.clip import SoundMode, VideoError
from service.serving.video.clip_disk import ClipFile
from service.serving.video.clip_frames import ConversionParams
from service.serving.video.clip_resources import ClipResources
from service.serving.video.conversion import OUTPUTS, ClipOrder
from service.serving.video.output_frames import VideoParams
from service.serving.video.plan import Ahead, Every, FillLost, FramePlan, lost_frames
from service.serving.video.retimed_frames import RetimingParams
from service.serving.video.retiming import rate
from service.telemetry.request_context import sharer

#: Characters of `lost` at most: every second frame of the longest clip takes half of them.
MAX_LOST = 16 * 1024
#: Characters of `lost` from which it is read in a thread.
LARGE_LOST = 256
#: What is made of the clip.
MAKING = ("ahead", "every", "lost", "fps", "conceal")
#: What the query may hold; a name with a slip in it would else mean nothing, silently.
QUERY = (*MAKING, "compare", "sound", "method", "version", "route", "blocks", "scale", WEBHOOK)
_FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
_BODY = {
    "required": True,
    "content": {"application/octet-stream": {}, "video/*": {}, "multipart/form-data": {"schema": _FORM}},
}
_CLIP: dict[str, Any] = {
    "description": "The clip.",
    "content": {name: {} for name in OUTPUTS},
    "headers": {clips.NOTE: {"description": "What of it is left out or changed.", "schema": {"type": "string"}}},
}
_ERRORS = error_answers(
    (
        *("invalid_request", "not_acceptable", "too_large", "unsupported_media", "invalid_frame"),
        *("queue_full", "client_limit", "unsupported", "unavailable"),
    )
)


def router(
    state: AppState, resources: ClipResources | None = None, jobs: ClipJobs | None = None, frames: Lookup | None = None
) -> APIRouter:
    """Serve POST /v1/video, and the jobs that `Prefer: respond-async` makes of it; by default of this process.

    Of an id that is one of `frames`, jobs of the other kind, they say so.
    """
    routes = APIRouter(tags=["video"], dependencies=[KNOWN_QUERY, hint_at_jobs(frames)])
    resources = resources or ClipResources(state)
    jobs = jobs or VideoJobs(state.settings, resources, state.work, state.metrics)
    accepting = _Clips(state, resources, jobs)

    @routes.post(
        "/v1/video",
        operation_id="convertVideo",
        summary="Predict frames of a clip: ahead of time, every n-th, those that were lost, or those of another rate",
        response_class=Response,
        responses={200: _CLIP, **_ERRORS},
        openapi_extra={"requestBody": _BODY},
    )
    async def convert(
        request: Request,
        ahead: Annotated[int | None, Query(description="Show each frame as predicted so many frames earlier.")] = None,
        every: Annotated[int | None, Query(description="Predict every n-th frame from the two before it.")] = None,
        lost: Annotated[str | None, Query(description="Predict these frames, such as 3,17,20-24; from 0.")] = None,
        fps: Annotated[str | None, Query(description="Another, constant rate: 60, 59.94 or 60000/1001.")] = None,
        conceal: Annotated[bool, Query(description="Find dropped and repeated frames and predict them.")] = False,
        compare: Annotated[bool, Query(description="True, predicted and error side by side.")] = False,
        sound: Annotated[
            SoundMode, Query(description="What the container holds is copied; or no sound; or the rest encoded anew.")
        ] = SoundMode.COPY,
        method: str | None = None,
        version: str | None = None,
        route: str | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        webhook: Annotated[str | None, Query(description="Of a job: where its end is told.")] = None,
    ) -> Response:
        check_plain(request, "clips")
        _check_names(request)
        params: ConversionParams
        if fps is None and not conceal:
            params = VideoParams(await _plan(ahead, every, lost), compare)
        else:
            params = _retiming(fps, conceal, compare, ahead is not None, every is not None, lost is not None)
        options = Options.parse(method=method, version=version, route=route, blocks=blocks, scale=scale)
        order = _asked(state, request, params, options, sound)
        is_later = later.asked_for(request)
        if webhook is not None and not is_later:
            raise InvalidRequest("a webhook tells of a job; ask for one with Prefer: respond-async", field=WEBHOOK)
        # A queue without workers yet keeps what it is given.
        check_ready(state.engine, admitting="starting" if is_later and jobs.durable else None)
        name = accepting.job_name(request) if is_later else None
        file, body = await accepting.receive(request)
        if name is not None:
            return await accepting.later(request, order, file, body, name)
        return await accepting.now(request, order, file)

    clips.add(routes, state, jobs)
    return routes


class _Clips:
    """Accepts clips: made while their callers wait, or later by `jobs`."""

    def __init__(self, state: AppState, resources: ClipResources, jobs: ClipJobs) -> None:
        self._state, self._resources, self._jobs = state, resources, jobs

    async def receive(self, request: Request) -> tuple[ClipFile, _Body]:
        """Receive the body into a file. It takes no place while it comes, and makes way for others who have less."""
        body = _Body(request)
        file = self._resources.disk.open(_caller(request), spooled=True)
        file.give_up = file.drop
        try:
            await body.receive(request, file)
        except BaseException:
            file.drop()
            raise
        file.give_up = None
        return file, body

    def job_name(self, request: Request) -> tuple[str, str | None]:
        """Return the id and webhook of a clip that is made later; InvalidRequest before its body is read."""
        hook = Hooks(self._state.settings.webhook_prefixes).check(request.query_params.get(WEBHOOK))
        return job_id(context.of(request).client, request.headers.get("idempotency-key")), hook

    async def later(
        self, request: Request, order: ClipOrder, file: ClipFile, body: _Body, name: tuple[str, str | None]
    ) -> Response:
        """Accept a clip as a job, once its beginning has been looked into: 202, or 200 for one accepted before."""
        request_context, (ident, hook) = context.of(request), name
        client = request_context.client
        with ExitStack() as stack:
            stack.callback(file.drop)
            frames = await self._resources.check(order, client, file)
            fingerprint = body.fingerprint(request, order)
            clip = NewClip(ident, client, _caller(request), order, fingerprint, frames, hook, body.name)
            view, is_new = await self._jobs.submit(clip, file)
            stack.pop_all()  # the job's from here on
        location = clips.path_of_clip(view.id, request_context.prefix)
        headers = {"Location": location, "Preference-Applied": "respond-async", "Retry-After": "1"}
        return JSONResponse(clips.document(view, self._jobs, request_context.prefix), 202 if is_new else 200, headers)

    async def now(self, request: Request, order: ClipOrder, file: ClipFile) -> Response:
        """Make a clip while its caller waits."""
        request_context = context.of(request)
        stack = AsyncExitStack()
        stack.callback(file.drop)
        try:
            stack.enter_context(self._resources.places.call(_caller(request)))
            stack.enter_context(self._state.work.accepted())
            conversion = self._resources.conversion(order, sharer(request_context), file, patient=False)
            pieces = conversion.pieces()
            stack.push_async_callback(pieces.aclose)
            # What is wrong with a clip mostly shows in its first frames: then the answer can still be an error. For MP4
            # they are dozens, and their caller may leave meanwhile.
            first = await while_connected(request.scope, request.receive, _first(pieces))
        except BaseException:
            await stack.aclose()
            raise
        response = _Made(_after(first, pieces), request_context, order.media_type, stack)
        return clips.noted(response, conversion.notes)


class _Body:
    """A request's body on its way: the clip itself or the only file of a form, its digest and its name."""

    def __init__(self, request: Request) -> None:
        self._form = _form(request)
        self._header = request.headers.get("content-disposition", "")
        self._digest = hashlib.sha256()

    @property
    def name(self) -> str:
        """Return the clip's name without its ending, as the form or Content-Disposition tells it; else "clip"."""
        return clip_name.stem(self._form.disposition if self._form else self._header)

    def fingerprint(self, request: Request, order: ClipOrder) -> str:
        """Hash the clip and what is asked for, not the bytes sent: a form has another boundary each time."""
        query = sorted(request.query_params.multi_items())
        parts = [self._digest.digest(), order.media_type.encode(), *(f"{k}={v}".encode() for k, v in query)]
        return job_fingerprint(parts)

    async def receive(self, request: Request, file: ClipFile) -> None:
        """Write the clip into `file`; its size and time are bounded by the middleware."""
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client left before its body was complete")
            body = message.get("body") or b""
            if content := self._form.feed(body) if self._form else body:
                self._digest.update(content)
                await file.write(content)
            if not message.get("more_body", False):
                break
        if self._form:
            self._form.check_ended()
        if not file.nbytes:
            raise InvalidRequest("the body is empty; send a clip: y4m, MP4, Matroska or WebM", field="body")


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


async def _first(pieces: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(pieces, b"")


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def _caller(request: Request) -> str:
    """Name whom places and bytes are counted for: the key's name, or the address where there are no keys."""
    request_context = context.of(request)
    return f"key {request_context.client}" if request_context.client else f"address {request_context.address}"


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


def _asked(
    state: AppState, request: Request, params: ConversionParams, options: Options, sound: SoundMode
) -> ClipOrder:
    media_type = negotiation.choose(", ".join(request.headers.getlist("accept")), tuple(OUTPUTS))
    if media_type is None:
        raise NotAcceptable(f"a clip can be answered as {', '.join(OUTPUTS)}", field="Accept")
    if options.route.policy is RoutePolicy.SAMPLE:
        raise InvalidRequest("sample would draw another route for each frame", field="route")
    # What is not loaded is told at once, not in the midst of the answer.
    if options.version is not None:
        ServedVersions.of(state).check_loaded(options.version)
    steps = params.plan.steps if isinstance(params, VideoParams) and isinstance(params.plan, Ahead) else 1
    try:
        options = replace(options, steps=steps).check(state.settings.max_steps)
    except InvalidRequest as error:
        if error.field == "steps":
            error.field, error.message = "ahead", error.message.replace("steps", "ahead")
        raise
    return ClipOrder(params, options, OUTPUTS[media_type], media_type, sound)


async def _plan(ahead: int | None, every: int | None, lost: str | None) -> FramePlan:
    if sum(value is not None for value in (ahead, every, lost)) != 1:
        raise InvalidRequest("say one of ahead, every, lost, fps and conceal in the query", field="ahead")
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


def _retiming(fps: str | None, conceal: bool, *others: object) -> RetimingParams:
    """Return how the clip's times change; InvalidRequest where any of the `others` is asked for with that."""
    field = "conceal" if fps is None else "fps"
    if any(others):
        why = "fps and conceal go with each other, not with ahead, every, lost or compare"
        raise InvalidRequest(why, field=field)
    try:
        return RetimingParams(None if fps is None else rate(fps), conceal)
    except VideoError as error:
        raise InvalidRequest(str(error).replace("--", ""), field=field) from error


def _form(request: Request) -> FormFile | None:
    """Return what takes the clip out of a form, if the body is one."""
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/"):
        return None
    if not content_type.lower().startswith("multipart/form-data"):
        raise UnsupportedMedia("send the clip as the body, or as the file of a form", field="Content-Type")
    return FormFile(content_type)
