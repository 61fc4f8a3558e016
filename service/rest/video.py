"""POST /v1/video: a clip in, the clip with predicted frames out, sent while it is being made; or as a job to wait for.

y4m or a container comes in as the plain body; what comes out is what Accept prefers.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, cast

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.core import accept
from service.core.errors import (
    Cancelled,
    InvalidFrame,
    InvalidRequest,
    NotAcceptable,
    QueueFull,
    Unavailable,
    Unsupported,
)
from service.core.types import Options, RouteChoice, RoutePolicy
from service.parts import Parts
from service.rest import context
from service.rest import jobs as later
from service.rest.video_jobs import VideoJobs
from service.video import y4m
from service.video.ask import predictor
from service.video.clip import Info, Sink, Source, Timed, VideoError
from service.video.compare import Score
from service.video.convert import Wish, frames
from service.video.plan import Ahead, Every, FillLost, Plan, lost_frames
from service.video.y4m import Y4mSink, Y4mSource

#: What comes out, ours first, and the container's ending.
OUTPUTS = {
    "video/mp4": ".mp4",
    "video/x-yuv4mpeg2": ".y4m",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
}
#: Clips made at once: each holds an encoder and a few frames, and more of them only share the device.
AT_ONCE = 2
#: Frames of one clip at most: two minutes at 30 a second.
MAX_FRAMES = 3600
#: Bytes of a body kept in memory before it goes to a temporary file.
SPOOL = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _Asked:
    wish: Wish
    options: Options
    suffix: str
    media_type: str


class _Outlet:
    """Where a sink writes: whole pieces, taken away as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def router(parts: Parts) -> APIRouter:
    """POST /v1/video, and the jobs that `Prefer: respond-async` makes of it."""
    routes = APIRouter(tags=["video"])
    places = asyncio.Semaphore(AT_ONCE)
    jobs = VideoJobs(parts.settings.job_ttl_s)

    @routes.post(
        "/v1/video",
        operation_id="convertVideo",
        summary="Predict frames of a clip: every frame ahead of time, every n-th, or those that were lost",
        response_class=Response,
        responses={200: {"description": "The clip.", "content": {name: {} for name in OUTPUTS}}},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/octet-stream": {}, "video/*": {}}},
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
        route: str = "auto",
        blocks: int | None = None,
        scale: float = 1.0,
    ) -> Response:
        asked = _asked(parts, request, _plan(ahead, every, lost), compare, route, blocks, scale)
        state = parts.engine.readiness()
        if not state.ready:
            raise Unavailable(f"not ready: {state.reason}", reason=state.reason, retry_after=1.0)
        client = context.of(request).client
        stack = AsyncExitStack()
        try:
            if places.locked():
                raise QueueFull("as many videos are being made as may be", retry_after=5.0)
            await places.acquire()
            stack.callback(places.release)
            file = cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115  # the stack closes it
            stack.callback(file.close)
            await _receive(request, file)
            made = _Conversion(parts, asked, client, file, stack)
            await made.open()
            if later.asked_for(request):
                job = jobs.begin(client, made.pieces(), made.total, asked.media_type, made.progress, stack.aclose)
                headers = {"Location": f"/v1/video/{job.id}", "Preference-Applied": "respond-async", "Retry-After": "1"}
                return JSONResponse(job.document(), 202, headers)
        except BaseException:
            await stack.aclose()
            raise
        pieces = made.pieces()
        try:
            # What is wrong with a clip mostly shows in its first frames: then the answer can still be an error.
            first = await anext(pieces, b"")
        except BaseException:
            await pieces.aclose()
            raise
        return StreamingResponse(_after(first, pieces), media_type=asked.media_type)

    @routes.get("/v1/video/{job}", operation_id="getVideoJob", summary="How far a clip is")
    async def get(request: Request, job: str) -> Response:
        return JSONResponse(jobs.get(job, context.of(request).client).document())

    @routes.get("/v1/video/{job}/result", operation_id="getVideoResult", summary="The finished clip")
    async def result(request: Request, job: str) -> Response:
        found = jobs.get(job, context.of(request).client)
        return Response(await asyncio.to_thread(found.result), media_type=found.media_type)

    @routes.delete("/v1/video/{job}", operation_id="cancelVideoJob", summary="Stop a clip, or drop a finished one")
    async def cancel(request: Request, job: str) -> Response:
        return JSONResponse((await jobs.cancel(job, context.of(request).client)).document())

    return routes


class _Conversion:
    """One clip, from the body's file to pieces of the answer. `stack` closes whatever it holds."""

    def __init__(self, parts: Parts, asked: _Asked, client: str, file: BinaryIO, stack: AsyncExitStack) -> None:
        self._parts, self._asked, self._client, self._file, self._stack = parts, asked, client, file, stack
        self.done = 0

    async def open(self) -> None:
        """Reads the clip's beginning; InvalidFrame where it is no clip, or too large."""
        settings = self._parts.settings
        self._source = await asyncio.to_thread(_open, self._file, settings.max_pixels)
        self._stack.callback(self._source.close)
        info: Info = self._source.info
        if min(info.width, info.height) < settings.min_side:
            raise InvalidFrame(f"frames of {info.width}x{info.height} are too small", field="body")
        self.total = info.frames

    def progress(self) -> int:
        """Frames written."""
        return self.done

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The answer, as it is made."""
        async with self._stack:
            outlet = _Outlet()
            sink = await asyncio.to_thread(_sink, outlet, self._source, self._asked)
            ask = predictor(self._parts.engine, self._asked.options, self._parts.settings, self._client)
            try:
                async with aclosing(frames(self._source, self._asked.wish, ask, Score())) as items:
                    async for item, _ in items:
                        await asyncio.to_thread(sink.write, item)
                        if isinstance(item, Timed):
                            self.done += 1
                            if self.done > MAX_FRAMES:
                                raise InvalidRequest(f"a clip may have at most {MAX_FRAMES} frames", field="body")
                        if data := outlet.take():
                            yield data
                await asyncio.to_thread(sink.close)
            except VideoError as error:
                raise InvalidFrame(str(error), field="body") from error
            yield outlet.take()


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def _asked(
    parts: Parts, request: Request, plan: Plan, compare: bool, route: str, blocks: int | None, scale: float
) -> _Asked:
    media_type = accept.choose(request.headers.get("accept"), tuple(OUTPUTS))
    if media_type is None:
        raise NotAcceptable(f"a clip can be answered as {', '.join(OUTPUTS)}", field="Accept")
    choice = RouteChoice.parse(route, blocks=blocks)
    if choice.policy is RoutePolicy.SAMPLE:
        raise InvalidRequest("sample would draw another route for each frame", field="route")
    steps = plan.steps if isinstance(plan, Ahead) else 1
    try:
        chosen = Options(route=choice, steps=steps, scale=scale).check(parts.settings.max_steps)
    except InvalidRequest as error:
        error.field = "ahead" if error.field == "steps" else error.field
        raise
    return _Asked(Wish(plan, compare), chosen, OUTPUTS[media_type], media_type)


def _plan(ahead: int | None, every: int | None, lost: str | None) -> Plan:
    if sum(value is not None for value in (ahead, every, lost)) != 1:
        raise InvalidRequest("say one of ahead, every and lost", field="ahead")
    try:
        if ahead is not None:
            return Ahead(ahead)
        return Every(every) if every is not None else FillLost(lost_frames(lost or ""))
    except VideoError as error:
        field = "ahead" if ahead is not None else "every" if every is not None else "lost"
        raise InvalidRequest(str(error).replace("--", ""), field=field) from error


async def _receive(request: Request, file: BinaryIO) -> None:
    """The body into the file; its size and time are bounded by the door."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left before its body was complete")
        if body := message.get("body"):
            await asyncio.to_thread(file.write, body)
        if not message.get("more_body", False):
            break
    if not file.tell():
        raise InvalidRequest("the body is empty; send a clip: y4m, MP4, Matroska or WebM", field="body")
    file.seek(0)


def _open(file: BinaryIO, max_pixels: int) -> Source:
    is_y4m = file.read(len(y4m.MAGIC)) == y4m.MAGIC
    file.seek(0)
    try:
        if is_y4m:
            return Y4mSource(file, max_pixels=max_pixels)
        container = _containers()
        found: Source = container.ContainerSource(file, max_pixels=max_pixels)
        return found
    except VideoError as error:
        raise InvalidFrame(str(error), field="body") from error


def _sink(outlet: _Outlet, source: Source, asked: _Asked) -> Sink:
    width, height = asked.wish.size(source)
    try:
        if asked.suffix == ".y4m":
            return Y4mSink(outlet, width, height, source.info.rate)  # type: ignore[arg-type]
        sounds = list(getattr(source, "sounds", ()))
        made: Sink = _containers().ContainerSink(outlet, width, height, source.info, suffix=asked.suffix, sounds=sounds)
        return made
    except VideoError as error:
        raise InvalidRequest(str(error).replace("or leave it out with --no-audio", ""), field="Accept") from error


def _containers() -> Any:
    try:
        from service.video import container
    except ImportError:
        raise Unsupported("this server reads and writes y4m only; PyAV is not installed") from None
    return container
