"""Tells how a job, of frames or a clip, stands: at once, as soon as that changes, or as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.app_state import AppState
from service.core.errors import ServiceError, Unavailable
from service.rest.formats import negotiation, response
from service.rest.transport import context
from service.rest.transport.context import Context
from service.rest.transport.disconnect import while_connected
from service.rest.transport.head_requests import no_body, wants_no_body
from service.serving.jobs.job import JobState

#: Seconds between comments on a quiet event stream, for proxies that close silent connections.
KEEP_ALIVE = 15.0
EVENTS = "text/event-stream"
#: Longest long-poll, seconds: below what proxies usually cut.
LONGEST_WAIT = 50.0
#: For proxies that gather an answer before they pass it on, as nginx does unless an answer forbids it.
UNBUFFERED = {"X-Accel-Buffering": "no"}


class WatchedView(Protocol):
    """What both kinds of view have: `ClipView` and `JobView`."""

    @property
    def state(self) -> JobState: ...

    @property
    def done(self) -> int: ...

    def same_as(self, other: Self) -> bool: ...


V = TypeVar("V", bound=WatchedView)


class WatchedJobs(Protocol[V]):
    """What keeps them: `ClipJobs` and `Jobs`."""

    @property
    def durable(self) -> bool: ...

    async def changed(self, seen: V, client: str, seconds: float) -> V: ...


async def newer(state: AppState, jobs: WatchedJobs[V], view: V, client: str, seconds: float) -> V:
    """Wait as `jobs.changed` does; return at once when the server stops, if another one can go on reporting."""
    if not jobs.durable:
        return await jobs.changed(view, client, seconds)
    news = asyncio.ensure_future(jobs.changed(view, client, seconds))  # awaited below
    stopping = asyncio.ensure_future(state.work.stopping.wait())  # awaited below
    try:
        await asyncio.wait({news, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return news.result() if news.done() else view
    finally:
        news.cancel()
        stopping.cancel()
        await asyncio.gather(news, stopping, return_exceptions=True)


async def state_answer(
    request: Request,
    state: AppState,
    jobs: WatchedJobs[V],
    view: V,
    seconds: float,
    describe: Callable[[V], dict[str, Any]],
    headers: Callable[[V], Mapping[str, str]] | None = None,
) -> Response:
    """Answer with how a job stands: as events, if Accept prefers them, or as JSON once it changes or after `seconds`.

    `view`: how it stands now.
    """
    if negotiation.choose(", ".join(request.headers.getlist("accept")), (response.JSON, EVENTS)) == EVENTS:
        return event_stream(request, state, jobs, view, describe)
    if seconds and not view.state.final:
        client = context.of(request).client
        view = await while_connected(request.scope, request.receive, newer(state, jobs, view, client, seconds))
    return JSONResponse(describe(view), headers=None if headers is None else headers(view))


def event_stream(
    request: Request, state: AppState, jobs: WatchedJobs[V], view: V, describe: Callable[[V], dict[str, Any]]
) -> Response:
    """Answer with an event for each change, the first at once, the last when the job is final.

    A reader that has seen that one gets 204: browsers ask again whenever a stream ends, and that tells them to stop.
    """
    if view.state.final and request.headers.get("last-event-id") == _event_id(view):
        return Response(status_code=204)
    body = no_body(str) if wants_no_body(request) else events(state, jobs, view, context.of(request), describe)
    return StreamingResponse(body, media_type=EVENTS, headers=UNBUFFERED)


async def events(
    state: AppState, jobs: WatchedJobs[V], view: V, request_context: Context, describe: Callable[[V], dict[str, Any]]
) -> AsyncIterator[str]:
    """Yield an event for each change, the first at once, the last when the job is final; comments meanwhile."""
    yield _event(view, describe)
    while not view.state.final:
        try:
            following = await newer(state, jobs, view, request_context.client, KEEP_ALIVE)
            if jobs.durable and state.work.stopping.is_set() and following.same_as(view):
                raise Unavailable("this server is stopping; ask again, another one knows the job", reason="draining")
        except ServiceError as error:
            # The queue went away, or the job expired: told, not just an end that looks like success.
            request_context.code = error.code
            yield f"event: error\ndata: {json.dumps({'code': error.code, 'message': error.message})}\n\n"
            return
        yield ": nothing new\n\n" if following.same_as(view) else _event(following, describe)
        view = following


def _event(view: V, describe: Callable[[V], dict[str, Any]]) -> str:
    return f"id: {_event_id(view)}\nevent: {view.state.value}\ndata: {json.dumps(describe(view))}\n\n"


def _event_id(view: WatchedView) -> str:
    return f"{view.state.value}-{view.done}"
